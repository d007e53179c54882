"""scFoundation's network: an encoder of what is expressed, a linear decoder of all genes.

Hao et al., Nature Methods 2024; xTrimoGene, Gong et al. 2023:

    e(v) = softmax(α h + W₂ h + b₂)ᵀ E,  h = leaky(W₁ v + b₁);  x = e(v) + P[gene]
    H = norm(blocks(x of the positive values, T and S among them))
    y = W norm(norm'(performer(W_d (H or e(0)) + P[gene]))) for every gene

The decoder's attention is FAVOR+ with the published projection. Departure: its maximum over keys
is taken per cell, so a cell does not depend on its neighbours (the official code takes it over the
whole batch; with one cell at a time the two are the same).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.block import TransformerBlock, attention_of_blocks
from cellweave_nn.layers.favor import FavorAttention
from cellweave_nn.layers.feedforward import FeedForward
from cellweave_nn.layers.layout import Padded, packed_layout
from cellweave_scfoundation.config import ScfoundationConfig

__all__ = ["Decoder", "ScfoundationNetwork", "SoftBins"]

_SLOPE = 0.1


class SoftBins(nn.Module):
    """Embed a number as a soft mixture of bins."""

    def __init__(self, config: ScfoundationConfig) -> None:
        super().__init__()
        self.alpha = config.bin_alpha
        self.mask_value, self.pad_value = config.mask_value, config.pad_value
        self.score = nn.Linear(1, config.n_bins)
        self.mix = nn.Linear(config.n_bins, config.n_bins)
        self.bins = nn.Embedding(config.n_bins, config.width)
        self.mask = nn.Embedding(1, config.width)
        self.pad = nn.Embedding(1, config.width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map ``(…)`` to ``(…, D)``; the values of mask and padding have rows of their own."""
        score = F.leaky_relu(self.score(values.unsqueeze(-1)), _SLOPE)
        weights = (self.alpha * score + self.mix(score)).softmax(-1)
        rows = weights @ self.bins.weight
        at = values.unsqueeze(-1)
        rows = torch.where(at == self.mask_value, self.mask.weight[0], rows)
        return torch.where(at == self.pad_value, self.pad.weight[0], rows)


class Decoder(nn.Module):
    """Performer blocks over all genes of a cell, two norms, and one number a gene."""

    def __init__(self, config: ScfoundationConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.narrow = nn.Linear(config.width, width)
        self.blocks = nn.ModuleList(_performer(config) for _ in range(config.decoder_depth))
        self.inner_norm = nn.LayerNorm(width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map ``(N, genes, D)`` to states ``(N, genes, d)``."""
        x, layout = self.narrow(rows), Padded(is_token=None)
        for block in self.blocks:
            x = block(x, layout)
        states: torch.Tensor = self.norm(self.inner_norm(x))
        return states


class ScfoundationNetwork(nn.Module):
    """Encode what is expressed; decode all genes."""

    def __init__(self, config: ScfoundationConfig) -> None:
        super().__init__()
        self.config = config
        self.values = SoftBins(config)
        # One row more than there are tokens: the published table has one for padding.
        self.places = nn.Embedding(config.n_ids + 1, config.width)
        self.blocks = nn.ModuleList(
            TransformerBlock.simple(config.width, config.heads, config.hidden, activation="relu")
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.decoder = Decoder(config)

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the first block sees, ``(T, D)``."""
        assert batch.values is not None
        rows: torch.Tensor = self.values(batch.values) + self.places(batch.ids)
        return rows

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks, ``(T, D)``; after all of them, normalised."""
        depth = self.config.depth if depth is None else depth
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        for block in list(self.blocks)[:depth]:
            x = block(x, layout)
        return self.norm(x) if depth == self.config.depth else x

    def attention(self, batch: TokenBatch) -> list[tuple[torch.Tensor, ...]]:
        """Return the softmax weights of every encoder block and cell, ``(H, length, length)``."""
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return attention_of_blocks(self.blocks, x, layout)

    def decoded(
        self, batch: TokenBatch, *, masked: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return the decoder's states of all genes, T and S, ``(N, n_ids, d)``.

        ``masked`` names the cells and genes whose value the decoder is asked for.
        """
        places = self.places.weight[: self.config.n_ids]
        silent = self.values(self.places.weight.new_zeros(1))
        rows = (silent + places).expand(batch.n_cells, -1, -1).clone()
        # The place is added to an expressed gene a second time, as published.
        rows[batch.cell_of_token(), batch.ids] = self(batch) + places[batch.ids]
        if masked is not None:
            asked = self.values(self.places.weight.new_full((1,), self.config.mask_value))
            rows[masked] = asked + places[masked[1]]
        states: torch.Tensor = self.decoder(rows)
        return states

    def masked_expression(self, batch: TokenBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return the predicted values of hidden tokens, ``(M,)``; the encoder reads the others."""
        assert batch.values is not None
        cells = batch.cell_of_token()
        counts = torch.bincount(cells[~hidden], minlength=batch.n_cells)
        shown = TokenBatch(
            offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            ids=batch.ids[~hidden],
            values=batch.values[~hidden],
            special=batch.special,
            n_ids=batch.n_ids,
        )
        asked = (cells[hidden], batch.ids[hidden])
        values: torch.Tensor = self.decoder.out(self.decoded(shown, masked=asked)[asked])
        return values.squeeze(-1)

    def expression(self, batch: TokenBatch) -> torch.Tensor:
        """Return the predicted log-normalised value of every gene, ``(N, n_genes)``."""
        values: torch.Tensor = self.decoder.out(self.decoded(batch)).squeeze(-1)
        return values[:, : self.config.n_genes]


def _performer(config: ScfoundationConfig) -> TransformerBlock:
    head_width = config.decoder_head_width
    attention = SelfAttention(
        config.decoder_width,
        config.decoder_heads,
        head_width=head_width,
        fused=False,
        kernel=FavorAttention(head_width, n_features=config.decoder_features),
    )
    feedforward = FeedForward(config.decoder_width, config.decoder_hidden, activation_name="gelu")
    return TransformerBlock(
        config.decoder_width, attention=attention, feedforward=feedforward, norm_first=True
    )
