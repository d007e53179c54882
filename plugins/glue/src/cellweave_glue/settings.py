"""What a training run is told: weights of the terms, sizes, seeds, and its phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellweave_glue.schedule import Schedule

__all__ = ["Phase", "TrainingSettings", "seed_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Hold the weights of the terms and the sizes of networks and batches."""

    n_latent: int
    n_hidden: int
    depth: int
    dropout: float
    lam_graph: float
    lam_align: float
    lam_kl: float
    lam_label: float
    lam_pair: float
    lam_anchor: float
    anchor_margin: float
    feature_floor: int
    batch_size: int
    n_negatives: int
    learning_rate: float
    validation_fraction: float
    seed: int
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One of the two phases: ``aligned`` lets the noise on the discriminator's input fade."""

    name: str
    number: int
    schedule: Schedule
    aligned: bool


def seed_of(*parts: int) -> int:
    """Return one 63-bit seed from several whole numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
