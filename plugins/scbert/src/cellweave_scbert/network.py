"""scBERT's network.

Yang et al. 2022, a Performer (Choromanski et al. 2021):

    x_0 = E[bin] + G[gene];  x = x + FAVOR+(norm(x));  x = x + W₂ GELU(W₁ norm(x));  h = norm(x_n)
    masked bins: W h;  labels: MLP(ReLU(conv over each token's features)) over all tokens

G is gene2vec's table. The random features are saved with the weights and never drawn again.

Departure: the largest exponent of the keys is taken within a cell; upstream takes it over the
batch, so that a cell depends on its neighbours there. One cell a batch is the same in both.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.block import TransformerBlock
from cellweave_nn.layers.favor import FavorAttention
from cellweave_nn.layers.feedforward import FeedForward
from cellweave_nn.layers.layout import Packed, packed_layout
from cellweave_nn.layers.tags import NO_TAGS
from cellweave_scbert.config import ScbertConfig

__all__ = ["LabelHead", "ScbertNetwork"]


class LabelHead(nn.Module):
    """Give a score for every label from the states of all tokens."""

    def __init__(self, config: ScbertConfig) -> None:
        super().__init__()
        first, second = config.label_widths
        self.conv1 = nn.Conv2d(1, 1, (1, config.width))
        self.fc1 = nn.Linear(config.n_ids, first)
        self.fc2 = nn.Linear(first, second)
        self.fc3 = nn.Linear(second, config.n_labels)

    def hidden(self, states: torch.Tensor) -> torch.Tensor:
        """Map ``(N, L, D)`` to what the last layer sees."""
        x = F.relu(self.conv1(states.unsqueeze(1))).flatten(1)
        return F.relu(self.fc2(F.relu(self.fc1(x))))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map ``(N, L, D)`` to ``(N, n_labels)``."""
        scores: torch.Tensor = self.fc3(self.hidden(states))
        return scores


class ScbertNetwork(nn.Module):
    """Embed bins and genes, run the blocks, and apply the head that the weights came with."""

    def __init__(self, config: ScbertConfig) -> None:
        super().__init__()
        self.config = config
        self.values = nn.Embedding(config.n_values, config.width)
        self.genes = nn.Embedding(config.n_ids, config.width)
        if config.double_places:
            self.genes.to(torch.float64)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.masked = nn.Linear(config.width, config.n_values) if config.masked else None
        self.label = LabelHead(config) if config.n_labels else None

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the first block sees, ``(T, D)``."""
        assert batch.values is not None
        rows: torch.Tensor = self.values(batch.values.to(torch.int64))
        # A table in double precision is added in it, then rounded, as upstream does in place.
        return (rows + self.genes(batch.ids)).to(rows.dtype)

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks (all, and the last norm, when not given)."""
        x, layout = self.embedded(batch), self._layout(batch)
        n = self.config.depth if depth is None else depth
        for block in list(self.blocks)[:n]:
            x = block(x, layout)
        return self.norm(x) if n == self.config.depth else x

    def last(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return what :meth:`forward` gives at the last token of each cell, ``(N, D)``.

        Of the last block that row alone is computed: the others are keys and values.
        """
        x, layout = self.embedded(batch), self._layout(batch)
        n = self.config.depth if depth is None else depth
        for block in list(self.blocks)[: max(n - 1, 0)]:
            x = block(x, layout)
        cells = x.view(batch.n_cells, self.config.n_ids, self.config.width)
        last = cells[:, -1] if n == 0 else self._last_row(self.blocks[n - 1], cells)
        return self.norm(last) if n == self.config.depth else last

    @staticmethod
    def _last_row(block: nn.Module, cells: torch.Tensor) -> torch.Tensor:
        assert isinstance(block, TransformerBlock)
        attention = block.attention
        assert isinstance(attention, SelfAttention)
        assert isinstance(attention.kernel, FavorAttention)
        seen = block.norm1(cells)
        of_heads = (attention.heads, attention.head_width)
        q = attention.query(seen[:, -1:]).unflatten(-1, of_heads)
        k, v = (part(seen).unflatten(-1, of_heads) for part in (attention.key, attention.value))
        mixed = attention.kernel.of_rows(q, k, v).flatten(-2)
        x = cells[:, -1] + attention.out(mixed).squeeze(1)
        out: torch.Tensor = x + block.feedforward(block.norm2(x), NO_TAGS)
        return out

    def received(self, batch: TokenBatch) -> torch.Tensor:
        """Return ``(depth, T, H)``: the attention each token gets from all of its cell."""
        x, layout = self.embedded(batch), self._layout(batch)
        found = []
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            attention = block.attention
            assert isinstance(attention, SelfAttention)
            assert isinstance(attention.kernel, FavorAttention)
            q, k, v = attention.project(block.attention_input(x))
            found.append(attention.kernel.received(q, k, v, layout, NO_TAGS))
            x = block(x, layout)
        return torch.stack(found)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of the bins of each token, ``(T, n_values)``."""
        assert self.masked is not None
        scores: torch.Tensor = self.masked(states)
        return scores

    def classes(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of the labels, ``(N, n_labels)``."""
        assert self.label is not None
        scores: torch.Tensor = self.label(states.view(-1, self.config.n_ids, self.config.width))
        return scores

    def _layout(self, batch: TokenBatch) -> Packed:
        return packed_layout(batch.offsets, batch.lengths, batch.device)


def _block(config: ScbertConfig) -> TransformerBlock:
    attention = SelfAttention(
        config.width,
        config.heads,
        head_width=config.head_width,
        fused=False,
        bias=False,
        kernel=FavorAttention(config.head_width, n_features=config.n_features),
    )
    return TransformerBlock(
        config.width,
        attention=attention,
        feedforward=FeedForward(config.width, config.hidden, activation_name="gelu"),
        norm_first=True,
    )
