"""Sparse rows on a device: gather a minibatch of cells without ever making the matrix dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RowBatch", "SparseRows", "propagate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """Some rows of a sparse matrix: non-zero ``values`` at (``rows``, ``cols``)."""

    rows: Tensor
    cols: Tensor
    values: Tensor
    shape: tuple[int, int]

    def dense(self) -> Tensor:
        """Return the rows as a dense matrix."""
        out = self.values.new_zeros(self.shape)
        return out.index_put_((self.rows, self.cols), self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseRows:
    """A CSR matrix as tensors, from which rows are drawn by index."""

    indptr: Tensor
    indices: Tensor
    values: Tensor
    n_cols: int

    @classmethod
    def from_matrix(cls, matrix: Any, *, device: str) -> SparseRows:
        """Copy a sparse or dense matrix to ``device``; stored zeros are dropped."""
        csr = sp.csr_matrix(matrix).astype(np.float32)
        csr.sum_duplicates()
        csr.eliminate_zeros()
        return cls(
            indptr=torch.as_tensor(csr.indptr.astype(np.int64), device=device),
            indices=torch.as_tensor(csr.indices.astype(np.int64), device=device),
            values=torch.as_tensor(csr.data, device=device),
            n_cols=csr.shape[1],
        )

    def take(self, rows: Tensor) -> RowBatch:
        """Return ``rows``, in that order."""
        starts = self.indptr[rows]
        lengths = self.indptr[rows + 1] - starts
        ends = torch.cumsum(lengths, 0)
        row_of = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        at = torch.arange(len(row_of), device=rows.device) + (starts - (ends - lengths))[row_of]
        return RowBatch(
            rows=row_of,
            cols=self.indices[at],
            values=self.values[at],
            shape=(len(rows), self.n_cols),
        )

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw one stored column of each of ``rows`` that has any.

        Returns the positions in ``rows`` of those that have, and the columns drawn.
        """
        starts = self.indptr[rows]
        lengths = self.indptr[rows + 1] - starts
        has = lengths.nonzero().squeeze(1)
        u = torch.rand(len(has), generator=generator, device=rows.device)
        step = torch.minimum((u * lengths[has]).long(), lengths[has] - 1)
        return has, self.indices[starts[has] + step]


class _Propagate(torch.autograd.Function):
    """Sparse matrix times dense, with the transposed matrix at hand for the way back."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        """Return ``matrix @ dense``."""
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        """Return the gradient of ``dense`` only: the matrix is fixed."""
        return None, None, ctx.transposed @ gradient


def propagate(matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
    """Return ``matrix @ dense`` for a fixed sparse ``matrix`` and its transpose."""
    out: Tensor = _Propagate.apply(matrix, transposed, dense)  # type: ignore[no-untyped-call]
    return out
