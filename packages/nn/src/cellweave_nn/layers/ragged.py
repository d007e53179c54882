"""Between packed ``(T, …)`` and padded ``(B, L, …)``, and sums over the tokens of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "cell_max",
    "cell_mean",
    "cell_sum",
    "first_of_cell",
    "last_of_cell",
    "pad",
    "prepend",
    "unpad",
]


def pad(x: torch.Tensor, lengths: Sequence[int], *, value: float = 0.0) -> torch.Tensor:
    """Return ``(B, L, …)`` with ``value`` to the right of each cell's rows."""
    longest = max(lengths, default=0)
    if min(lengths, default=0) == longest:
        return x.view(len(lengths), longest, *x.shape[1:])
    is_token = _is_token(lengths, x.device)
    out = x.new_full((*is_token.shape, *x.shape[1:]), value)
    return out.masked_scatter(is_token.view(*is_token.shape, *[1] * (x.dim() - 1)), x)


def unpad(x: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Return the rows of ``(B, L, …)`` that are tokens, ``(T, …)``."""
    if min(lengths, default=0) == max(lengths, default=0):
        return x.flatten(0, 1)
    return x[_is_token(lengths, x.device)]


def prepend(x: torch.Tensor, offsets: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Put one of ``rows`` ``(N, D)`` before the rows of each cell; ``(T + N, D)``."""
    n_cells, n_tokens = len(offsets) - 1, len(x)
    out = x.new_empty((n_tokens + n_cells, *x.shape[1:]))
    first = offsets[:-1] + torch.arange(n_cells, device=x.device)
    is_token = torch.ones(len(out), dtype=torch.bool, device=x.device)
    is_token[first] = False
    at = is_token.nonzero().squeeze(1)
    return out.index_copy(0, at, x).index_copy(0, first, rows.to(x.dtype))


def cell_sum(x: torch.Tensor, cell: torch.Tensor, n_cells: int) -> torch.Tensor:
    """Sum the rows of each cell; zero for a cell without tokens."""
    return x.new_zeros((n_cells, *x.shape[1:])).index_add(0, cell, x)


def cell_mean(x: torch.Tensor, cell: torch.Tensor, n_cells: int) -> torch.Tensor:
    """Average the rows of each cell; zero for a cell without tokens."""
    counts = x.new_zeros(n_cells).index_add(0, cell, x.new_ones(len(x))).clamp_min(1)
    return cell_sum(x, cell, n_cells) / counts.view(-1, *[1] * (x.dim() - 1))


def cell_max(x: torch.Tensor, cell: torch.Tensor, n_cells: int) -> torch.Tensor:
    """Take the largest of each cell's rows; zero for a cell without tokens."""
    index = cell[:, None].expand_as(x)
    out = x.new_zeros((n_cells, x.shape[1]))
    return out.scatter_reduce(0, index, x, reduce="amax", include_self=False)


def first_of_cell(x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return the first row of each cell; zero for a cell without tokens."""
    return _row_of_cell(x, offsets, offsets[:-1])


def last_of_cell(x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return the last row of each cell; zero for a cell without tokens."""
    return _row_of_cell(x, offsets, offsets[1:] - 1)


def _row_of_cell(x: torch.Tensor, offsets: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    empty = offsets[1:] == offsets[:-1]
    if not len(x):
        return x.new_zeros((len(at), *x.shape[1:]))
    rows = x[at.clamp(0, len(x) - 1)]
    return rows.masked_fill(empty.view(-1, *[1] * (x.dim() - 1)), 0.0)


def _is_token(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    counts = torch.tensor(lengths, device=device)
    return torch.arange(max(lengths, default=0), device=device) < counts[:, None]
