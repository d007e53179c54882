"""How ids, values and places become rows.

Values: Cui et al. 2024 (continuous MLP, scaling, bins); Hao et al. 2024 (soft automatic bins).
Places: learned; sinusoidal (Vaswani et al. 2017); in the plane, for spatial cells.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "AutoBinValues",
    "BinnedValues",
    "ContinuousValues",
    "PlaceEmbedding",
    "SinusoidalPlaces",
    "TokenEmbedding",
    "plane_waves",
]


class TokenEmbedding(nn.Module):
    """Look up a row per id; ``table`` and, where asked for, ``norm``."""

    def __init__(
        self, n_ids: int, width: int, *, pad_id: int | None = None, norm: bool = False
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(n_ids, width, padding_idx=pad_id)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ``(…)`` ids to ``(…, D)``."""
        rows: torch.Tensor = self.norm(self.table(ids))
        return rows


class ContinuousValues(nn.Module):
    """Map a number to a row by a small network, as scGPT does."""

    def __init__(self, width: int, *, largest: float = 512.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.largest = largest
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map ``(…)`` numbers to ``(…, D)``."""
        x = values.clamp(max=self.largest).unsqueeze(-1).to(self.linear1.weight.dtype)
        rows: torch.Tensor = self.dropout(self.norm(self.linear2(F.relu(self.linear1(x)))))
        return rows


class BinnedValues(nn.Module):
    """Look up a row per bin; negative values (mask −1, pad −2) take rows after the bins."""

    def __init__(self, n_bins: int, width: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.table = nn.Embedding(n_bins + 2, width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map ``(…)`` bins to ``(…, D)``."""
        bins = values.round().to(torch.int64)
        bins = torch.where(bins < 0, self.n_bins - 1 - bins, bins.clamp(max=self.n_bins - 1))
        rows: torch.Tensor = self.table(bins.clamp(0, self.n_bins + 1))
        return rows


class AutoBinValues(nn.Module):
    """Mix ``n_bins`` learned rows by a softmax of the value, as scFoundation does.

    h = LeakyReLU₀.₁(W₁v + b₁);  w = softmax(α h + W₂h + b₂);  row = wᵀE.
    A value equal to ``mask_value`` or ``pad_value`` has a row of its own.
    """

    def __init__(
        self,
        n_bins: int,
        width: int,
        *,
        alpha: float = 1.0,
        mask_value: float = -1.0,
        pad_value: float = -2.0,
    ) -> None:
        super().__init__()
        self.alpha, self.mask_value, self.pad_value = alpha, mask_value, pad_value
        self.mlp = nn.Linear(1, n_bins)
        self.mlp2 = nn.Linear(n_bins, n_bins)
        self.emb = nn.Embedding(n_bins, width)
        self.emb_mask = nn.Embedding(1, width)
        self.emb_pad = nn.Embedding(1, width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map ``(…)`` numbers to ``(…, D)``."""
        h = F.leaky_relu(self.mlp(values.unsqueeze(-1).to(self.mlp.weight.dtype)), 0.1)
        weights = (self.alpha * h + self.mlp2(h)).softmax(-1)
        rows = weights @ self.emb.weight
        rows = torch.where((values == self.mask_value)[..., None], self.emb_mask.weight[0], rows)
        return torch.where((values == self.pad_value)[..., None], self.emb_pad.weight[0], rows)


class PlaceEmbedding(nn.Module):
    """Look up a row per place; places beyond the table share its last row."""

    def __init__(self, n_places: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_places, width)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """Map ``(…)`` places to ``(…, D)``."""
        rows: torch.Tensor = self.table(places.clamp(0, self.table.num_embeddings - 1))
        return rows


class SinusoidalPlaces(nn.Module):
    """Sines and cosines in turn, computed and not stored."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """Map ``(…)`` places to ``(…, D)``."""
        rate = torch.arange(0, self.width, 2, device=places.device, dtype=torch.float32)
        rate = torch.exp(rate * (-math.log(10_000.0) / self.width))
        angle = places[..., None].to(torch.float32) * rate
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return waves[..., : self.width]


def plane_waves(coordinates: torch.Tensor, width: int, *, longest: float = 100.0) -> torch.Tensor:
    """Map ``(N, 2)`` coordinates to ``(N, D)``: half the features for each axis."""
    quarter = width // 4
    rate = longest ** (-torch.arange(quarter, device=coordinates.device) / max(quarter, 1))
    angle = coordinates[:, :, None].to(torch.float32) * rate
    waves = torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(1)
    return F.pad(waves, (0, width - waves.shape[1]))
