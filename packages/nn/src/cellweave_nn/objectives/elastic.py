"""Elastic cell similarity (ECS).

Cui et al. 2024: cells are drawn together above a threshold β and apart below it:

    S = ReLU(e eᵀ), diagonal 0, e unit cell states;   L = mean (1 − (S − β)²)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["ElasticSimilarity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticSimilarity:
    """Spread cells out, and gather those that are alike.

    Parameters
    ----------
    threshold
        β.
    """

    threshold: float = 0.8

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build nothing."""
        return {}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide nothing."""
        return Corrupted(batch=batch, targets={})

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean over all pairs, the diagonal's zeros included, as published."""
        e = F.normalize(outputs.cell_state.float(), dim=-1)
        diagonal = torch.eye(len(e), dtype=torch.bool, device=e.device)
        similarity = F.relu((e @ e.T).masked_fill(diagonal, 0.0))
        return {"elastic": (1.0 - (similarity - self.threshold).square()).mean()}
