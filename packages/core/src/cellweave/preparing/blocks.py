"""One way of writing what a preparation computes, for matrices in memory and for Dask arrays.

A matrix in memory is one CSR block; a Dask array has many, each of whole rows. What is summed over
cells is summed block by block and then over blocks as a tree, so that memory does not grow with
the number of cells; with a Dask cluster as the scheduler, its workers do the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = ["is_lazy", "keep_rows", "map_rows", "rows_to_values", "sum_over_blocks"]


def is_lazy(matrix: Any) -> bool:
    """Tell whether a matrix is a Dask array."""
    return hasattr(matrix, "dask") and hasattr(matrix, "map_blocks")


def sum_over_blocks(
    function: Callable[..., np.ndarray], matrix: Any, *rows: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Return ``function`` of all rows, computed as the sum of ``function`` of their blocks.

    Parameters
    ----------
    function
        Takes a CSR block and the matching stretch of each of ``rows``; returns ``shape``.
    matrix
        CSR, or a Dask array of CSR blocks of whole rows.
    rows
        Arrays with one entry a row.
    shape
        Of what ``function`` returns.
    """
    if not is_lazy(matrix):
        return function(matrix, *rows)
    flat = _with_flat_rows(function)

    def partial_sum(block: sp.csr_matrix, *beside: np.ndarray) -> np.ndarray:
        return np.asarray(flat(block, *beside), dtype=np.float64)[None]

    made = matrix.map_blocks(
        partial_sum,
        *_beside(matrix, rows),
        chunks=((1,) * matrix.numblocks[0], *((n,) for n in shape)),
        new_axis=[2],
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )
    return np.asarray(made.sum(axis=0).compute())


def rows_to_values(
    function: Callable[..., np.ndarray], matrix: Any, *rows: np.ndarray, width: int
) -> np.ndarray:
    """Return ``function`` of each block, ``(n_rows, width)``, one below the other, in memory."""
    if not is_lazy(matrix):
        return function(matrix, *rows)
    made = matrix.map_blocks(
        _with_flat_rows(function),
        *_beside(matrix, rows),
        chunks=(matrix.chunks[0], (width,)),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    return np.asarray(made.compute())


def map_rows(function: Callable[..., Any], matrix: Any, *rows: np.ndarray) -> Any:
    """Return the matrix, or Dask array, whose blocks are ``function`` of the given one's.

    Blocks that come back are CSR or dense, all of one kind.
    """
    if not is_lazy(matrix):
        return function(matrix, *rows)
    empty = sp.csr_matrix((1, matrix.shape[1]), dtype=matrix.dtype)
    probe = function(empty, *(r[:1] for r in rows))
    sparse = sp.issparse(probe)
    return matrix.map_blocks(
        _with_flat_rows(function),
        *_beside(matrix, rows),
        chunks=(matrix.chunks[0], (probe.shape[1],)),
        dtype=probe.dtype,
        meta=sp.csr_matrix((0, 0), dtype=probe.dtype) if sparse else np.empty((0, 0), probe.dtype),
    )


def keep_rows(matrix: Any, keep: np.ndarray) -> Any:
    """Return the rows that are marked; blocks that lose all of theirs disappear."""
    if not is_lazy(matrix):
        return matrix[keep]
    if keep.all():
        return matrix
    da: Any = import_module("dask.array")
    parts, begin = [], 0
    for block, n in zip(matrix.blocks, matrix.chunks[0], strict=True):
        mine = keep[begin : begin + n]
        begin += n
        if mine.any():
            kept = ((int(mine.sum()),), matrix.chunks[1])
            empty = sp.csr_matrix((0, 0), dtype=matrix.dtype)
            parts.append(block.map_blocks(_marked, mine, chunks=kept, meta=empty))
    return da.concatenate(parts, axis=0) if parts else matrix[:0]


def _marked(block: sp.csr_matrix, keep: np.ndarray) -> sp.csr_matrix:
    return block[keep]


def _with_flat_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Undo that arrays beside a matrix travel as single columns."""

    def flat(block: sp.csr_matrix, *beside: np.ndarray) -> Any:
        return function(block, *(b.ravel() for b in beside))

    return flat


def _beside(matrix: Any, rows: tuple[np.ndarray, ...]) -> list[Any]:
    """Cut arrays with one entry a row as the matrix is cut, as single columns."""
    da: Any = import_module("dask.array")
    return [da.from_array(r[:, None], chunks=(matrix.chunks[0], (1,))) for r in rows]
