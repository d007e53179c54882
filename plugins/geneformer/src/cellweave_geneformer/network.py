"""Geneformer's network: BERT with post-norm blocks, on packed cells.

Devlin et al. 2019; Theodoris et al. 2023:

    x_0 = norm(E[id] + P[place] + T[0]);  x_l = block_l(x_{l-1})
    logits = norm(relu(W x_n + b)) Eᵀ + c

Departure: cells are packed, so no token meets padding and nothing is spent on it.
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave_geneformer.config import GeneformerConfig
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.running import sequences_of
from cellweave_nn.layers.block import (
    TransformerBlock,
    attention_of_blocks,
    first_states,
    run_blocks,
)
from cellweave_nn.layers.feedforward import activation
from cellweave_nn.layers.layout import packed_layout
from cellweave_nn.layers.ragged import first_of_cell

__all__ = ["GeneformerNetwork", "MaskedHead"]


class MaskedHead(nn.Module):
    """Predict the token at each place; its last weights are the embedding of the ids."""

    def __init__(self, config: GeneformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.bias = nn.Parameter(torch.zeros(config.n_ids))
        self.act = activation(config.activation)

    def forward(self, states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Map ``(T, D)`` states to ``(T, n_ids)`` logits."""
        return self.norm(self.act(self.dense(states))) @ table.T + self.bias


class GeneformerNetwork(nn.Module):
    """Embed tokens, run the blocks, and apply the head that the weights came with."""

    def __init__(self, config: GeneformerConfig) -> None:
        super().__init__()
        self.config = config
        self.ids = nn.Embedding(config.n_ids, config.width)
        self.places = nn.Embedding(config.n_places, config.width)
        self.types = nn.Embedding(config.n_types, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.blocks = nn.ModuleList(
            TransformerBlock.simple(
                config.width,
                config.heads,
                config.hidden,
                activation=config.activation,
                eps=config.eps,
            )
            for _ in range(config.depth)
        )
        self.masked = MaskedHead(config) if config.head == "mlm" else None
        self.pooler = nn.Linear(config.width, config.width) if config.head == "cell" else None
        n_labels = len(config.labels)
        self.classifier = nn.Linear(config.width, n_labels) if n_labels else None

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the first block sees, ``(T, D)``."""
        rows = self.ids(batch.ids) + self.types.weight[0] + self.places(batch.places())
        normed: torch.Tensor = self.norm(rows)
        return normed

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks (all when not given), ``(T, D)``."""
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        n = self.config.depth if depth is None else depth
        return run_blocks(list(self.blocks)[:n], self.embedded(batch), layout)

    def first(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the first row of each cell after ``depth`` blocks, ``(N, D)``, and no other."""
        n = self.config.depth if depth is None else depth
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return first_states(list(self.blocks)[:n], self.embedded(batch), layout)

    def attention(self, batch: TokenBatch) -> list[tuple[torch.Tensor, ...]]:
        """Return the softmax weights of every block and cell, ``(H, length, length)``."""
        sequences = sequences_of(self.embedded(batch), batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return attention_of_blocks(self.blocks, sequences.rows, layout)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of every token at every place."""
        assert self.masked is not None
        scores: torch.Tensor = self.masked(states, self.ids.weight)
        return scores

    def classes(self, states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return the classifier's scores, one row a cell or one a token."""
        assert self.classifier is not None
        if self.pooler is not None:
            states = torch.tanh(self.pooler(first_of_cell(states, batch.offsets)))
        scores: torch.Tensor = self.classifier(states)
        return scores
