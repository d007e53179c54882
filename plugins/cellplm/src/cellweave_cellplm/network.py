"""CellPLM's network, whose tokens are cells.

Wen et al., ICLR 2024:

    x_0 = GroupNorm₄(ReLU(W Σ_g log1p(x_g) E_g));  pre-norm blocks of flow attention over the cells
    h = norm(x_n);  y = one of 16 clusters from V h;  z = M ReLU(U [h; y])

Departure: upstream draws y with Gumbel noise even when it only embeds, so that a cell has another
vector at every call; here y is the likeliest cluster unless noise is asked for.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_cellplm.config import CellplmConfig
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.block import TransformerBlock
from cellweave_nn.layers.feedforward import FeedForward
from cellweave_nn.layers.flow import FlowAttention
from cellweave_nn.layers.layout import Padded

__all__ = ["CellplmNetwork", "MixtureLatent"]

_GROUPS = 4


class MixtureLatent(nn.Module):
    """Choose a cluster for each cell, and give the mean of its latent there."""

    def __init__(self, config: CellplmConfig) -> None:
        super().__init__()
        self.clusters = nn.Linear(config.width, config.clusters)
        self.hidden = nn.Linear(config.width + config.clusters, config.latent_hidden)
        self.mean = nn.Linear(config.latent_hidden, config.latent_width)

    def forward(self, h: torch.Tensor, *, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, D)`` to ``(N, latent_width)``; ``noise`` is added to the clusters' scores."""
        scores = self.clusters(h)
        scores = scores if noise is None else scores + noise
        chosen = F.one_hot(scores.argmax(-1), scores.shape[-1]).to(h.dtype)
        z: torch.Tensor = self.mean(F.relu(self.hidden(torch.cat([h, chosen], dim=-1))))
        return z


class CellplmNetwork(nn.Module):
    """Sum up each cell's genes, let the cells of a sequence meet, and give their latent."""

    def __init__(self, config: CellplmConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.genes = nn.Parameter(0.005 * torch.randn(config.n_ids, width))
        self.linear = nn.Linear(width, width)
        self.group_norm = nn.GroupNorm(_GROUPS, width)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.latent = MixtureLatent(config)

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return one row a cell, ``(N, D)``: what the first block sees."""
        assert batch.values is not None
        rows = F.embedding_bag(
            batch.ids,
            self.genes,
            batch.offsets[:-1],
            mode="sum",
            per_sample_weights=batch.values.to(self.genes.dtype),
        )
        out: torch.Tensor = self.group_norm(F.relu(self.linear(rows)))
        return out

    def encoded(self, rows: torch.Tensor, *, depth: int | None = None) -> torch.Tensor:
        """Return the states of the cells of one sequence after ``depth`` blocks, ``(N, D)``."""
        x, layout = rows.unsqueeze(0), Padded(is_token=None)
        for block in list(self.blocks)[: self.config.depth if depth is None else depth]:
            x = block(x, layout)
        return x.squeeze(0)

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Return the latent of the cells of a batch, taken as one sequence."""
        z: torch.Tensor = self.latent(self.norm(self.encoded(self.embedded(batch))))
        return z


def _block(config: CellplmConfig) -> TransformerBlock:
    attention = SelfAttention(config.width, config.heads, fused=False, kernel=FlowAttention())
    return TransformerBlock(
        config.width,
        attention=attention,
        feedforward=FeedForward(config.width, config.hidden, activation_name="gelu"),
        norm_first=True,
    )
