"""Cells and networks as training takes them: tensors, minibatches, held-out cells, pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cellweave_glue.model import GlueNetwork, ModalityShape
from cellweave_glue.settings import TrainingSettings, seed_of
from cellweave_glue.sparse import SparseRows

if TYPE_CHECKING:
    from torch import Tensor

    from cellweave_glue.graph import GuidanceGraph
    from cellweave_glue.inputs import ModalityInput

__all__ = [
    "CellData",
    "minibatches",
    "network_of",
    "partners_of",
    "shapes_of",
    "validation_cells",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellData:
    """One modality on the device."""

    inputs: Tensor
    values: SparseRows
    log_library: Tensor
    batch: Tensor
    label: Tensor
    train: Tensor
    validation: Tensor

    @classmethod
    def of(cls, data: ModalityInput, *, held_out: np.ndarray, device: str) -> CellData:
        """Copy a modality to the device, cells split into training and validation."""
        return cls(
            inputs=torch.as_tensor(data.representation, device=device),
            values=SparseRows.from_matrix(data.values, device=device),
            log_library=torch.as_tensor(data.log_library, device=device),
            batch=torch.as_tensor(data.batch, device=device),
            label=torch.as_tensor(data.label, device=device),
            train=torch.as_tensor(np.flatnonzero(~held_out), device=device),
            validation=torch.as_tensor(np.flatnonzero(held_out), device=device),
        )


def minibatches(
    rows: Tensor, size: int, n_steps: int, generator: torch.Generator
) -> Sequence[Tensor]:
    """Return ``n_steps`` minibatches: shuffled sweeps over ``rows``, one after the other."""
    size = min(size, len(rows))
    n_sweeps = math.ceil(size * n_steps / len(rows))
    sweeps = [
        rows[torch.randperm(len(rows), generator=generator, device=rows.device)]
        for _ in range(n_sweeps)
    ]
    order = torch.cat(sweeps)
    return [order[i * size : (i + 1) * size] for i in range(n_steps)]


def validation_cells(
    data: Mapping[str, ModalityInput],
    pairs: Mapping[str, np.ndarray] | None,
    settings: TrainingSettings,
) -> dict[str, np.ndarray]:
    """Hold out a part of the cells; both halves of a pair fall on the same side."""
    out = {}
    for m in sorted(data):
        n = data[m].n_cells
        ids = np.arange(n) if pairs is None else pairs[m]
        n_ids = n if pairs is None else 1 + max(int(p.max()) for p in pairs.values())
        # one order of ids for all, so that equal ids are treated alike in every modality
        order = np.random.default_rng(seed_of(settings.seed, 103)).permutation(n_ids)[ids]
        held = order < int(settings.validation_fraction * n_ids)
        out[m] = held if n - held.sum() >= 2 else np.zeros(n, dtype=bool)
    if not all(held.any() for held in out.values()):
        return {m: np.zeros_like(held) for m, held in out.items()}
    return out


def partners_of(
    pairs: Mapping[str, np.ndarray] | None, names: Sequence[str], device: str
) -> dict[tuple[str, str], Tensor]:
    """Return, for each pair of modalities, the row in the second of each cell of the first."""
    if pairs is None:
        return {}
    out = {}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            place = np.full(max(int(p.max()) for p in pairs.values()) + 1, -1, dtype=np.int64)
            place[pairs[b]] = np.arange(len(pairs[b]))
            out[a, b] = torch.as_tensor(place[pairs[a]], device=device)
    return out


def shapes_of(data: Mapping[str, ModalityInput], graph: GuidanceGraph) -> dict[str, ModalityShape]:
    """Return what the networks must know of each modality."""
    return {
        m: ModalityShape(
            n_inputs=data[m].representation.shape[1],
            n_features=len(data[m].features),
            n_batches=len(data[m].batches),
            likelihood=data[m].likelihood,
        )
        for m in graph.modalities
    }


def network_of(
    shapes: Mapping[str, ModalityShape],
    data: Mapping[str, ModalityInput],
    graph: GuidanceGraph,
    settings: TrainingSettings,
    n_labels: int,
    generator: torch.Generator,
) -> GlueNetwork:
    """Return new networks whose decoders start at the data's means."""
    network = GlueNetwork(
        shapes=shapes,
        n_vertices=graph.n_vertices,
        n_latent=settings.n_latent,
        n_hidden=settings.n_hidden,
        depth=settings.depth,
        dropout=settings.dropout,
        n_labels=n_labels,
        generator=generator,
    )
    for m in graph.modalities:
        network.decoder(m).start_at(data[m].values)
    return network
