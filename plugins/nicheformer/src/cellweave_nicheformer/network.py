"""Nicheformer's network: post-norm blocks over ranked genes, and the heads of fine-tuned weights.

Schaar, Tejada-Lapuerta et al., Nature Methods 2025:

    x_0 = E[id] + P[place];  x_l = block_l(x_{l-1})
    cell = mean of x_n over the places after the context, padding among them

Quirk kept where the authors' mean is asked for: every cell is padded to the full context, padded
places look at the real tokens and are real numbers, and they are averaged too. Here keys are cut to
the longest cell of the batch, which changes nothing and saves most of the time. Cells that are not
to be averaged so run packed, without padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nicheformer.config import NicheformerConfig
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.block import TransformerBlock, attention_of_blocks, run_blocks
from cellweave_nn.layers.feedforward import FeedForward
from cellweave_nn.layers.kernels import FullAttention
from cellweave_nn.layers.layout import Layout, Padded, packed_layout
from cellweave_nn.layers.tags import Tags

__all__ = ["NicheformerNetwork"]

_EPS = 1e-12
_PAD = 1


class _RealKeys(FullAttention):
    """Let padded queries look at real keys; keys beyond the longest cell are left out."""

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layout: Layout,
        tags: Tags,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend within each cell."""
        if not isinstance(layout, Padded) or layout.is_token is None:
            return super().forward(q, k, v, layout, tags, bias)
        longest = int(layout.is_token.sum(1).max())
        seen = layout.is_token[:, None, None, :longest]
        q, k, v = (t.transpose(1, 2) for t in (q, k[:, :longest], v[:, :longest]))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)


class NicheformerNetwork(nn.Module):
    """Embed ranked genes, run the blocks, and apply the heads that the weights came with."""

    def __init__(self, config: NicheformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.ids = nn.Embedding(config.n_rows, width)
        self.places = nn.Embedding(config.n_places, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width,
                attention=SelfAttention(width, config.heads, kernel=_RealKeys()),
                feedforward=FeedForward(width, config.hidden, activation_name="relu"),
                eps=_EPS,
            )
            for _ in range(config.depth)
        )
        self.masked = nn.Linear(width, config.n_ids) if config.masked else None
        self.extractor = nn.Linear(width, width) if config.extractor else None
        seen = width * len(config.layers) if config.combine == "concat" else width
        n_out = config.n_out
        self.task = nn.Linear(seen, n_out, bias=False) if n_out else None

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the first block sees, ``(T, D)``."""
        rows: torch.Tensor = self.ids(batch.ids) + self.places(batch.places())
        return rows

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks (all when not given), ``(T, D)``."""
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        n = self.config.depth if depth is None else depth
        return run_blocks(list(self.blocks)[:n], self.embedded(batch), layout)

    def padded(self, batch: TokenBatch, depths: Sequence[int]) -> list[torch.Tensor]:
        """Return the states after each of ``depths`` blocks, ``(N, n_places, D)``, padding real."""
        n_places, device = self.config.n_places, batch.device
        lengths = torch.tensor(batch.lengths, device=device)
        is_token = torch.arange(n_places, device=device) < lengths[:, None]
        ids = torch.full(is_token.shape, _PAD, dtype=torch.int64, device=device)
        ids[is_token] = batch.ids
        x = self.ids(ids) + self.places.weight
        layout, found = Padded(is_token=is_token), {0: x}
        for at, block in enumerate(list(self.blocks)[: max(depths)], start=1):
            x = block(x, layout)
            if at in depths:
                found[at] = x
        return [found[depth] for depth in depths]

    def attention(self, batch: TokenBatch) -> list[tuple[torch.Tensor, ...]]:
        """Return the softmax weights of every block and cell, ``(H, length, length)``."""
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return attention_of_blocks(self.blocks, x, layout)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of every token at every place."""
        assert self.masked is not None
        scores: torch.Tensor = self.masked(states)
        return scores

    def scores(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the fine-tuned head says of each cell, ``(N, n_out)``."""
        assert self.task is not None
        config = self.config
        states = self.padded(batch, [i + 1 for i in config.layers])
        if config.combine == "concat":
            combined = torch.cat(states, dim=-1)
        else:
            combined = torch.stack(states).sum(0)
            combined = combined / len(states) if config.combine == "mean" else combined
        first = 0 if config.with_context else config.n_dropped
        cells = combined[:, first:].mean(1)
        if self.extractor is not None:
            cells = torch.tanh(self.extractor(cells))
        found: torch.Tensor = self.task(cells)
        return found.softmax(-1) if config.softmax else found
