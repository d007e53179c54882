"""GeneMamba's network: each block reads the ranked genes from both ends with one Mamba-2.

Qi et al. 2025; Dao and Gu 2024:

    f = mamba(x) + x;  b = flip(mamba(flip x)) + x
    x = (f + b) / 2, f + b, W [f; b] + c, or z f + (1 − z) b with z = σ(W [f; b] + c)
    logits = W' rmsnorm(x) + c'

W is one for all blocks. Cells are packed and only real tokens are turned round, as the authors'
code does with a padding mask. Their own scripts give none: a padded cell is then turned round with
its padding. :meth:`GenemambaNetwork.padded` does that.
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave_genemamba.config import GenemambaConfig
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.layout import Layout, Padded, packed_layout
from cellweave_nn.layers.mamba import BidirectionalMamba
from cellweave_nn.layers.norm import make_norm

__all__ = ["Classifier", "GenemambaNetwork"]


class Classifier(nn.Module):
    """Score labels: linear, batch norm, dropout and leaky ReLU, again and again, then linear."""

    def __init__(self, config: GenemambaConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = config.width
        for _ in range(config.label_depth - 1):
            hidden = config.label_width
            layers += [nn.Linear(width, hidden), nn.BatchNorm1d(hidden)]
            layers += [nn.Dropout(0.5), nn.LeakyReLU(0.1)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, config.labels))

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Map ``(N, D)`` to ``(N, labels)``."""
        scores: torch.Tensor = self.layers(cells)
        return scores


class GenemambaNetwork(nn.Module):
    """Embed ranked genes, run the blocks, and apply the heads that the weights came with."""

    def __init__(self, config: GenemambaConfig) -> None:
        super().__init__()
        self.config = config
        width, inner = config.width, config.heads * config.head_width
        self.ids = nn.Embedding(config.n_ids, width)
        self.blocks = nn.ModuleList(
            BidirectionalMamba(
                width,
                fuse="none",
                norm="none",
                state=config.state,
                conv=config.conv,
                expand=inner // width,
                head_width=config.head_width,
            )
            for _ in range(config.depth)
        )
        mixes = config.fuse in ("concat", "gate")
        self.aggr = nn.Linear(2 * width, width) if mixes else None
        self.norm = make_norm("rms", width)
        self.next = nn.Linear(width, config.n_ids) if config.head else None
        self.classifier = Classifier(config) if config.labels else None

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks, ``(T, D)``; after all of them, normalised."""
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return self._blocks(self.ids(batch.ids), layout, depth)

    def padded(self, batch: TokenBatch, pad_id: int, *, depth: int | None = None) -> torch.Tensor:
        """Return ``(N, max_length, D)`` states of cells padded to full length, no place masked."""
        longest, device = self.config.max_length, batch.device
        lengths = torch.tensor(batch.lengths, device=device)
        is_token = torch.arange(longest, device=device) < lengths[:, None]
        ids = torch.full(is_token.shape, pad_id, dtype=torch.int64, device=device)
        ids[is_token] = batch.ids
        return self._blocks(self.ids(ids), Padded(is_token=None), depth)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of the next gene at every place."""
        assert self.next is not None
        scores: torch.Tensor = self.next(states)
        return scores

    def _blocks(self, x: torch.Tensor, layout: Layout, depth: int | None) -> torch.Tensor:
        depth = self.config.depth if depth is None else depth
        for block in list(self.blocks)[:depth]:
            x = self._fused(block(x, layout))
        return self.norm(x) if depth == self.config.depth else x

    def _fused(self, both: torch.Tensor) -> torch.Tensor:
        forward, backward = both.chunk(2, dim=-1)
        if self.aggr is None:
            return (forward + backward) * (0.5 if self.config.fuse == "mean" else 1.0)
        mixed: torch.Tensor = self.aggr(both)
        if self.config.fuse == "concat":
            return mixed
        gate = mixed.sigmoid()
        return gate * forward + (1 - gate) * backward
