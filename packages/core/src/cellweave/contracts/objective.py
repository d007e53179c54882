"""The contract of an objective: what to hide from the encoder, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cellweave.contracts.batch import Corrupted, EncoderOutput, TokenBatch

if TYPE_CHECKING:
    import torch

__all__ = ["Objective"]


@runtime_checkable
class Objective(Protocol):
    """Corrupt a batch, then score what an encoder made of it."""

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Return the corrupted batch and the targets; all randomness comes from ``generator``."""
        ...

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return named scalar loss terms."""
        ...
