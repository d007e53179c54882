"""scMulan's network, which reads a cell and writes its type.

Bian et al., RECOMB 2024, a causal transformer (GPT) without places:

    x_0 = E[token] + B[bin];  x = x + attention(norm(x));  x = x + W₂ GELU(W₁ norm(x))
    next token: the largest of W norm(x_n) that the prompt lacks;  its bin: round(V norm(x_n))

The prompt is read once: what later tokens attend to is kept, which causality makes exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.block import TransformerBlock, attention_of_blocks
from cellweave_nn.layers.kernels import FullAttention
from cellweave_nn.layers.layout import packed_layout
from cellweave_nn.layers.ragged import pad
from cellweave_nn.layers.tags import NO_TAGS
from cellweave_scmulan.config import ScmulanConfig

__all__ = ["Generated", "ScmulanNetwork"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Hold what was written after the prompts.

    Parameters
    ----------
    cells
        ``(N, D)`` the authors' cell embedding: the state before the last of the last reading.
    tokens
        ``(N, 2)`` the last two tokens before the end: coarse and fine type; −1 for none.
    chances
        ``(N, 2)`` their probabilities.
    """

    cells: torch.Tensor
    tokens: torch.Tensor
    chances: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Hold keys and values of every block, ``(N, L, H, K)``, and which places are tokens."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    is_token: torch.Tensor


class ScmulanNetwork(nn.Module):
    """Embed tokens and bins, run the blocks, and write on."""

    def __init__(self, config: ScmulanConfig) -> None:
        super().__init__()
        self.config = config
        self.ids = nn.Embedding(config.n_ids, config.width)
        self.bins = nn.Embedding(config.n_bins + 1, config.width)
        self.blocks = nn.ModuleList(
            TransformerBlock.simple(
                config.width,
                config.heads,
                config.hidden,
                activation="gelu_tanh",
                norm_first=True,
                bias=config.bias,
                kernel=FullAttention(causal=True),
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.next_id = nn.Linear(config.width, config.n_ids, bias=False)
        self.next_bin = nn.Linear(config.width, config.n_ids, bias=False)

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the first block sees, ``(T, D)``."""
        assert batch.values is not None
        rows: torch.Tensor = self.ids(batch.ids) + self.bins(batch.values.to(torch.int64))
        return rows

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks (all, and the last norm, when not given)."""
        n = self.config.depth if depth is None else depth
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        for block in list(self.blocks)[:n]:
            x = block(x, layout)
        return self.norm(x) if n == self.config.depth else x

    def attention(self, batch: TokenBatch) -> list[tuple[torch.Tensor, ...]]:
        """Return the softmax weights of every block and cell, ``(H, length, length)``."""
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return attention_of_blocks(self.blocks, x, layout)

    def generate(self, batch: TokenBatch) -> Generated:
        """Write the types of cells whose prompts end with the task."""
        stop = batch.special["stop"]
        states, kept = self._read(batch)
        last = batch.offsets[1:] - 1
        # Tokens of the prompt are not written again; its last one is let through, as upstream.
        banned = torch.zeros(batch.n_cells, self.config.n_ids, dtype=torch.bool, device=last.device)
        banned[batch.cell_of_token(), batch.ids] = True
        rows = torch.arange(batch.n_cells, device=last.device)
        banned[rows, batch.ids[last]] = False
        task = states[last]
        coarse, first_chance = self._next(task, banned)
        banned[rows, batch.ids[last]] = True
        level = self.next_bin(task)[rows, coarse].round().clamp(0, self.config.n_bins)
        written = self._write(coarse, level.to(torch.int64), kept)
        fine, second_chance = self._next(written, banned)
        # A cell that ended early is read less far, so its second last state lies further back.
        none = torch.full_like(coarse, -1)
        ended, short = coarse == stop, fine == stop
        cells = torch.where(short[:, None], task, written)
        cells = torch.where(ended[:, None], states[last - 1], cells)
        one = torch.where(ended | short, none, coarse)
        two = torch.where(ended, none, torch.where(short, coarse, fine))
        chance = torch.where(short, first_chance, second_chance)
        return Generated(
            cells=cells,
            tokens=torch.stack([one, two], dim=1),
            chances=torch.stack([first_chance, chance], dim=1),
        )

    def _next(self, states: torch.Tensor, banned: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the likeliest token that is not banned, and its probability."""
        scores = self.next_id(states).masked_fill(banned, float("-inf"))
        best = scores.argmax(-1)
        return best, scores.softmax(-1).gather(1, best[:, None]).squeeze(1)

    def _read(self, batch: TokenBatch) -> tuple[torch.Tensor, Kept]:
        """Return the last states of the prompts, and what later tokens attend to."""
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        keys, values = [], []
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            attention = block.attention
            assert isinstance(attention, SelfAttention)
            q, k, v = attention.project(block.attention_input(x))
            keys.append(pad(k, batch.lengths))
            values.append(pad(v, batch.lengths))
            x = x + attention.out(attention.kernel(q, k, v, layout, NO_TAGS).flatten(-2))
            x = x + block.feedforward(block.norm2(x))
        counts = torch.tensor(batch.lengths, device=x.device)
        is_token = torch.arange(max(batch.lengths), device=x.device) < counts[:, None]
        return self.norm(x), Kept(keys=keys, values=values, is_token=is_token)

    def _write(self, ids: torch.Tensor, bins: torch.Tensor, kept: Kept) -> torch.Tensor:
        """Return the state of one more token a cell, ``(N, D)``."""
        x = self.ids(ids) + self.bins(bins)
        seen = torch.cat([kept.is_token, torch.ones_like(kept.is_token[:, :1])], dim=1)
        for block, old_keys, old_values in zip(self.blocks, kept.keys, kept.values):
            assert isinstance(block, TransformerBlock)
            attention = block.attention
            assert isinstance(attention, SelfAttention)
            q, k, v = attention.project(block.attention_input(x))
            keys = torch.cat([old_keys, k[:, None]], dim=1)
            values = torch.cat([old_values, v[:, None]], dim=1)
            scores = torch.einsum("nhk,nlhk->nhl", q, keys) * q.shape[-1] ** -0.5
            weights = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1)
            x = x + attention.out(torch.einsum("nhl,nlhk->nhk", weights, values).flatten(1))
            x = x + block.feedforward(block.norm2(x))
        state: torch.Tensor = self.norm(x)
        return state
