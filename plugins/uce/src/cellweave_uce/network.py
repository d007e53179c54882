"""UCE's network on packed cells.

Rosen et al. 2023, with P a token's protein vector divided by its length:

    x_0 = √D norm(GELU(W P)) + waves(place);  blocks post-norm, ReLU
    cell = D(x_n)[<cls>] divided by its length;  gene expressed or not: B[cell, G(P)]

Quirk: upstream hands the padding mask over as numbers, so padding is seen, with 1 added to its
logits, and a cell depends on the longest of its batch. Here nothing is padded, which is the same
as one cell a batch there; :meth:`UceNetwork.padded` repeats the quirk.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from cellweave.errors import DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.block import (
    TransformerBlock,
    attention_of_blocks,
    first_states,
    run_blocks,
)
from cellweave_nn.layers.layout import Padded, packed_layout
from cellweave_nn.layers.ragged import pad, unpad
from cellweave_uce.config import UceConfig

__all__ = ["TokenRows", "UceNetwork"]


class UceNetwork(nn.Module):
    """Map protein vectors to rows, run the blocks, and decode."""

    waves: torch.Tensor

    def __init__(self, config: UceConfig) -> None:
        super().__init__()
        self.config = config
        width, out = config.width, config.out_width
        self.vectors = nn.Embedding(config.n_ids, config.vector_width)
        self.rows = _two(config.vector_width, width)
        self.register_buffer("waves", _waves(config.n_places, width))
        self.blocks = nn.ModuleList(
            TransformerBlock.simple(width, config.heads, config.hidden, activation="relu")
            for _ in range(config.depth)
        )
        self.decoder = _funnel(width, (config.middle_width, out, out), out)
        self.genes = _two(config.vector_width, width)
        self.binary = _funnel(out + width, config.binary_widths, 1)

    def embedded(self, batch: TokenBatch, *, rows: TokenRows | None = None) -> torch.Tensor:
        """Return what the first block sees, ``(T, D)``; ``rows`` keeps what was mapped before."""
        if max(batch.lengths, default=0) > self.config.n_places:
            msg = (
                f"A cell has {max(batch.lengths)} tokens; the weights have {self.config.n_places} "
                "places. Draw fewer genes, with a smaller n_draws."
            )
            raise DataError(msg)
        x = self._tokens(batch.ids) if rows is None else rows.of(batch.ids)
        return x + self.waves[batch.running_index()] if self.config.places else x

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks (all when not given), ``(T, D)``."""
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        n = self.config.depth if depth is None else depth
        return run_blocks(list(self.blocks)[:n], self.embedded(batch), layout)

    def first(
        self, batch: TokenBatch, *, depth: int | None = None, rows: TokenRows | None = None
    ) -> torch.Tensor:
        """Return the first row of each cell after ``depth`` blocks, ``(N, D)``, and no other."""
        n = self.config.depth if depth is None else depth
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return first_states(list(self.blocks)[:n], self.embedded(batch, rows=rows), layout)

    def padded(self, batch: TokenBatch) -> torch.Tensor:
        """Return the last states as upstream computes them for just this batch, ``(T, D)``."""
        ids = pad(batch.ids, batch.lengths, value=batch.special["pad"])
        is_token = pad(torch.ones_like(batch.ids), batch.lengths)
        x = self._tokens(ids.flatten()).view(*ids.shape, -1)
        x = x + self.waves[: ids.shape[1]] if self.config.places else x
        bias = (1 - is_token).to(x.dtype)[:, None, None, :]
        layout = Padded(is_token=None)
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            x = block.norm1(x + block.attention(x, layout, bias=bias))
            x = block.norm2(x + block.feedforward(x))
        return unpad(x, batch.lengths)

    def attention(self, batch: TokenBatch) -> list[tuple[torch.Tensor, ...]]:
        """Return the softmax weights of every block and cell, ``(H, length, length)``."""
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return attention_of_blocks(self.blocks, x, layout)

    def decoded(self, states: torch.Tensor) -> torch.Tensor:
        """Return the decoder's output for states, ``(…, out_width)``."""
        out: torch.Tensor = self.decoder(states)
        return out

    def gene_rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embedding of genes that the head of expression reads, ``(…, D)``."""
        rows: torch.Tensor = self.genes(F.normalize(self.vectors(ids), dim=-1))
        return rows

    def expressed(self, cells: torch.Tensor, genes: torch.Tensor) -> torch.Tensor:
        """Return logits that genes ``(G, D)`` are expressed in cells ``(N, E)``, ``(N, G)``."""
        pairs = torch.cat(
            [
                cells[:, None].expand(-1, len(genes), -1),
                genes[None].expand(len(cells), -1, -1),
            ],
            dim=-1,
        )
        logits: torch.Tensor = self.binary(pairs).squeeze(-1)
        return logits

    def _tokens(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids to rows; a token is computed once for all cells of the batch."""
        distinct, back = torch.unique(ids, return_inverse=True)
        return self.mapped(distinct)[back]

    def mapped(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of ids, ``(…, D)``."""
        rows: torch.Tensor = self.rows(F.normalize(self.vectors(ids), dim=-1))
        return rows * math.sqrt(self.config.width)


class TokenRows:
    """Map each token once for all batches: while the weights stay as they are.

    Parameters
    ----------
    network
        Whose tokens.
    """

    def __init__(self, network: UceNetwork) -> None:
        self.network = network
        self._place = torch.full((network.config.n_ids,), -1, dtype=torch.int64)
        self._rows = torch.empty(0, network.config.width)

    def of(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of ids, ``(T, D)``."""
        place = self._place = self._place.to(ids.device)
        fresh = torch.unique(ids[place[ids] < 0])
        if len(fresh):
            rows = self._rows.to(ids.device)
            place[fresh] = torch.arange(len(rows), len(rows) + len(fresh), device=ids.device)
            self._rows = torch.cat([rows, self.network.mapped(fresh)])
        return self._rows[place[ids]]


def _two(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.LayerNorm(out))


def _funnel(width: int, hidden: tuple[int, int, int], out: int) -> nn.Sequential:
    """Build three layers of map, norm and GELU, and a last map."""
    sizes = (width, *hidden)
    layers: list[nn.Module] = [
        nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()) for a, b in zip(sizes, hidden)
    ]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], out))


def _waves(n_places: int, width: int) -> torch.Tensor:
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(n_places)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
