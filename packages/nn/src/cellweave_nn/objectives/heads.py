"""Prediction heads, and the sizes they are built from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.layers.feedforward import gelu

__all__ = ["HeadShape", "InnerProductHead", "ProjectionHead", "ScaleHead", "TokenHead", "ValueHead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """Say how wide an encoder's states are, and how many ids there are."""

    token_width: int
    cell_width: int
    n_ids: int


class TokenHead(nn.Module):
    """Score every id for a row, as BERT does: transform, norm, decode."""

    def __init__(self, width: int, n_ids: int) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.Linear(width, n_ids)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(M, D)`` to ``(M, n_ids)`` logits."""
        logits: torch.Tensor = self.decoder(self.norm(gelu(self.transform(x))))
        return logits


class ValueHead(nn.Module):
    """Predict one number a row: three linear layers with leaky ReLUs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, width),
            nn.LeakyReLU(),
            nn.Linear(width, width),
            nn.LeakyReLU(),
            nn.Linear(width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(M, D)`` to ``(M,)``."""
        predicted: torch.Tensor = self.fc(x).squeeze(-1)
        return predicted


class InnerProductHead(nn.Module):
    """Predict a gene's value from its embedding g and the cell's state c: ⟨W σ(Qg), c⟩."""

    def __init__(self, gene_width: int, cell_width: int) -> None:
        super().__init__()
        self.gene2query = nn.Linear(gene_width, gene_width)
        self.W = nn.Linear(gene_width, cell_width, bias=False)

    def forward(self, genes: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Map ``(M, D_gene)`` and ``(M, D_cell)`` to ``(M,)``."""
        query = self.W(torch.sigmoid(self.gene2query(genes)))
        return (query * cells).sum(-1)


class ProjectionHead(nn.Module):
    """Project states to the unit sphere on which contrastive losses compare them."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(M, D)`` to unit rows ``(M, out)``."""
        return F.normalize(self.project(x), dim=-1)


class ScaleHead(nn.Module):
    """A learned logit scale, kept as its logarithm (CLIP's 1/0.07 at the start)."""

    def __init__(self, start: float = 2.6592) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(start))

    def forward(self, similarity: torch.Tensor) -> torch.Tensor:
        """Scale similarities; the factor never exceeds 100."""
        return similarity * self.log_scale.exp().clamp(max=100.0)
