"""scGPT's network on packed cells.

Cui et al., Nature Methods 2024:

    x_0 = norm(E[gene]) + value(v);  x_l = block_l(x_{l-1}), post-norm, ReLU;  cell = x_n[<cls>]
    value of a gene: MLP(x_n); from the cell: ⟨W σ(Q norm(E[gene])), cell⟩

No flash kernels: torch's own attention, and no padding, so nothing depends on the batch.
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave.errors import DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.block import (
    TransformerBlock,
    attention_of_blocks,
    first_states,
    run_blocks,
)
from cellweave_nn.layers.embedding import ContinuousValues, TokenEmbedding
from cellweave_nn.layers.layout import packed_layout
from cellweave_nn.layers.norm import DomainBatchNorm
from cellweave_nn.layers.ragged import first_of_cell
from cellweave_scgpt.config import ScgptConfig

__all__ = ["ConditionedHead", "ExpressionHead", "LabelHead", "ScgptNetwork"]

_EPS = 6.1e-5  # of the batch norms


class ExpressionHead(nn.Module):
    """Give a token's value from its state; with ``zero`` also the chance that it is not zero."""

    def __init__(self, width: int, *, zero: bool) -> None:
        super().__init__()
        self.fc = _three_layers(width)
        self.zero_logit = _three_layers(width) if zero else None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map ``(T, D)`` to ``(T,)``."""
        values: torch.Tensor = self.fc(states).squeeze(-1)
        return values

    def nonzero(self, states: torch.Tensor) -> torch.Tensor:
        """Map ``(T, D)`` to chances ``(T,)``."""
        assert self.zero_logit is not None
        return self.zero_logit(states).squeeze(-1).sigmoid()


class ConditionedHead(nn.Module):
    """Give a gene's value from its embedding and the state of the cell."""

    def __init__(self, width: int, *, zero: bool) -> None:
        super().__init__()
        self.gene2query = nn.Linear(width, width)
        self.W = nn.Linear(width, width, bias=False)
        self.W_zero_logit = nn.Linear(width, width) if zero else None

    def forward(self, genes: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Map gene rows and the cell row of each, ``(T, D)`` both, to ``(T,)``."""
        query = self.gene2query(genes).sigmoid()
        values: torch.Tensor = (self.W(query) * cells).sum(-1)
        return values

    def nonzero(self, genes: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Give chances of not being zero."""
        assert self.W_zero_logit is not None
        query = self.gene2query(genes).sigmoid()
        return (self.W_zero_logit(query) * cells).sum(-1).sigmoid()


class LabelHead(nn.Module):
    """Give a score for every label from the state of a cell."""

    def __init__(self, width: int, n_labels: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width)]
        self.hidden = nn.Sequential(*layers)
        self.out = nn.Linear(width, n_labels)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Map ``(N, D)`` to ``(N, n_labels)``."""
        scores: torch.Tensor = self.out(self.hidden(cells))
        return scores


class ScgptNetwork(nn.Module):
    """Embed genes and values, run the blocks, and apply the heads that the weights came with."""

    def __init__(self, config: ScgptConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.genes = TokenEmbedding(config.n_ids, width, norm=True)
        self.values: nn.Module | None = None
        if config.values == "continuous":
            self.values = ContinuousValues(width)
        elif config.values == "category":
            self.values = TokenEmbedding(config.n_values, width, norm=True)
        self.batch_norm = nn.BatchNorm1d(width, eps=_EPS) if config.norm == "batch" else None
        n_domains = config.n_domains
        self.domains = DomainBatchNorm(width, n_domains, eps=_EPS) if n_domains else None
        self.blocks = nn.ModuleList(
            TransformerBlock.simple(width, config.heads, config.hidden, activation="relu")
            for _ in range(config.depth)
        )
        self.flag = nn.Embedding(2, width) if config.flag else None
        self.expression = ExpressionHead(width, zero=config.zero) if config.expression else None
        conditioned = config.conditioned
        self.conditioned = (
            ConditionedHead(width, zero=config.conditioned_zero) if conditioned else None
        )
        n_labels = config.n_labels
        self.label = LabelHead(width, n_labels, config.label_depth) if n_labels else None

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the first block sees, ``(T, D)``."""
        genes = self.genes(batch.ids)
        assert batch.values is not None
        if self.values is None:
            rows = genes * batch.values.unsqueeze(-1)
        elif self.config.values == "category":
            rows = genes + self.values(_as_rows(batch.values, self.config.n_values))
        else:
            rows = genes + self.values(batch.values)
        if self.batch_norm is not None:
            rows = self.batch_norm(rows)
        if self.domains is not None:
            rows = self.domains(rows, batch.context["domain"][batch.cell_of_token()])
        return rows

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
        x = self.embedded(batch)
        layout = packed_layout(batch.offsets, batch.lengths, batch.device)
        return attention_of_blocks(self.blocks, x, layout)

    def cells(self, states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return the state of ``<cls>``, ``(N, D)``."""
        return first_of_cell(states, batch.offsets)

    def expression_values(self, states: torch.Tensor) -> torch.Tensor:
        """Return the predicted value of each token (the authors' ``mlm_output``)."""
        assert self.expression is not None
        values: torch.Tensor = self.expression(states)
        return values

    def conditioned_values(self, states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return each token's value as predicted from the cell (the authors' ``mvc_output``)."""
        assert self.conditioned is not None
        cells = self.cells(states, batch)[batch.cell_of_token()]
        values: torch.Tensor = self.conditioned(self.genes(batch.ids), cells)
        return values


def _three_layers(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width),
        nn.LeakyReLU(),
        nn.Linear(width, width),
        nn.LeakyReLU(),
        nn.Linear(width, 1),
    )


def _as_rows(values: torch.Tensor, n_rows: int) -> torch.Tensor:
    rows = values.to(torch.int64)
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= n_rows):
        msg = (
            f"Values run from {int(rows.min())} to {int(rows.max())}, and the weights have a row "
            f"for 0 to {n_rows - 1}. Use the n_bins and pad_value of args.json."
        )
        raise DataError(msg)
    return rows
