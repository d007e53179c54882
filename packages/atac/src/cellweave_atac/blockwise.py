"""A randomized singular value decomposition that sees the cells block by block.

Paper: Halko, Martinsson and Tropp, SIAM Review 2011. With X cells x peaks and a random Q, the
directions that X stretches most come forward in W = (XᵀX)^q Xᵀ Q (or (XᵀX)^q Q where there are
more cells than peaks); X is then decomposed within W. Start and number of iterations are those of
scikit-learn, which serves matrices in memory, so both give the same up to rounding; each iteration
here is one pass over the blocks, and memory holds a few peaks x components and cells x components.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cellweave.preparing import rows_to_values, sum_over_blocks

__all__ = ["svd_of_blocks"]

_MORE = 10  # directions beyond those wanted, as scikit-learn has it


def svd_of_blocks(
    matrix: Any, n_components: int, *, n_iter: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return left vectors, singular values and right vectors of a Dask array of CSR blocks.

    Parameters
    ----------
    matrix
        ``(n_cells, n_peaks)``.
    n_components
        How many.
    n_iter
        Power iterations.
    seed
        Of the start.
    """
    n_cells, n_peaks = matrix.shape
    width = n_components + _MORE
    rng = np.random.RandomState(seed)
    if n_cells < n_peaks:
        towards = _transposed(matrix, _as_drawn(rng, n_cells, width))
    else:
        towards = _as_drawn(rng, n_peaks, width)
    for _ in range(n_iter):
        towards = np.linalg.qr(towards)[0]
        towards = _squared(matrix, towards)
    towards = np.linalg.qr(towards)[0]
    # Within these directions, X is cells x few: its own decomposition is the one of X.
    inside = rows_to_values(lambda b: b @ towards, matrix, width=towards.shape[1])
    left, singular, right = np.linalg.svd(inside, full_matrices=False)
    keep = slice(0, n_components)
    return left[:, keep].copy(), singular[keep], (right @ towards.T)[keep]


def _as_drawn(rng: Any, n: int, width: int) -> np.ndarray:
    return np.asarray(rng.normal(size=(n, width)), dtype=np.float32).astype(np.float64)


def _transposed(matrix: Any, start: np.ndarray) -> np.ndarray:
    def part(block: Any, at: np.ndarray) -> np.ndarray:
        return np.asarray(block.T @ start[at])

    shape = (matrix.shape[1], start.shape[1])
    return sum_over_blocks(part, matrix, np.arange(matrix.shape[0]), shape=shape)


def _squared(matrix: Any, towards: np.ndarray) -> np.ndarray:
    def part(block: Any) -> np.ndarray:
        return np.asarray(block.T @ (block @ towards))

    return sum_over_blocks(part, matrix, shape=towards.shape)
