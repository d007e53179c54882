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
    """Some rows of a sparse matrix, by ``index`` into ``source``; nothing is copied before use."""

    source: SparseRows
    index: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Count rows and columns."""
        return len(self.index), self.source.n_cols

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return row, column and value of every non-zero, row by row."""
        starts = self.source.indptr[self.index]
        lengths = self.source.indptr[self.index + 1] - starts
        ends = torch.cumsum(lengths, 0)
        device = self.index.device
        rows = torch.repeat_interleave(torch.arange(len(self.index), device=device), lengths)
        at = torch.arange(len(rows), device=device) + (starts - (ends - lengths))[rows]
        return rows, self.source.indices[at].long(), self.source.values[at]

    def dense(self) -> Tensor:
        """Return the rows as a dense matrix."""
        rows, cols, values = self.entries()
        return values.new_zeros(self.shape).index_put_((rows, cols), values)


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
            indices=torch.as_tensor(csr.indices.astype(np.int32), device=device),
            values=torch.as_tensor(csr.data, device=device),
            n_cols=csr.shape[1],
        )

    def take(self, rows: Tensor) -> RowBatch:
        """Return ``rows``, in that order."""
        return RowBatch(source=self, index=rows)

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw one stored column of each of ``rows`` that has any.

        Returns the positions in ``rows`` of those that have, and the columns drawn.
        """
        starts = self.indptr[rows]
        lengths = self.indptr[rows + 1] - starts
        has = lengths.nonzero().squeeze(1)
        u = torch.rand(len(has), generator=generator, device=rows.device)
        step = torch.minimum((u * lengths[has]).long(), lengths[has] - 1)
        return has, self.indices[starts[has] + step].long()


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
