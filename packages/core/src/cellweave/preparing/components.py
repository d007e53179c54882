"""Low-dimensional coordinates with a fixed orientation, so that equal input gives equal bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cellweave.preparing.blocks import is_lazy, rows_to_values, sum_over_blocks

__all__ = [
    "principal_components",
    "scaled_components",
    "signed_components",
    "standardized",
]

_EXACT_UP_TO = 2500
_BLOCK = 16_384


def signed_components(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn singular vectors so that the largest loading of each component is positive.

    Parameters
    ----------
    left
        ``(n_rows, k)`` left singular vectors or scores.
    right
        ``(k, n_columns)`` loadings.
    """
    strongest = np.argmax(np.abs(right), axis=1)
    signs = np.sign(right[np.arange(len(right)), strongest])
    signs[signs == 0] = 1
    return left * signs, right * signs[:, None]


def standardized(values: np.ndarray, *, axis: int, ddof: int = 1) -> np.ndarray:
    """Centre and scale along ``axis``; what does not vary becomes 0, not NaN."""
    centred = values - values.mean(axis=axis, keepdims=True)
    spread = centred.std(axis=axis, ddof=ddof, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)


def principal_components(
    values: Any, n_components: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, loadings and the share of variance of each component.

    A matrix of up to 2 500 columns is decomposed exactly through its covariance, summed in blocks
    of cells in double precision; a wider one by the randomized solver from ``seed``.

    Parameters
    ----------
    values
        ``(n_cells, n_features)`` dense values, or a Dask array of blocks of such rows, which is
        decomposed exactly at any width; centred here.
    n_components
        Wanted number; fewer come back when the matrix has fewer.
    seed
        Start of the randomized solver.
    """
    n_components = min(n_components, *values.shape)
    if is_lazy(values):
        return _components_of_blocks(values, np.asarray, n_components)
    if values.shape[1] <= _EXACT_UP_TO:
        directions, share = _exact(values, n_components)
    else:
        directions, share = _randomized(values, n_components, seed)
    _, directions = signed_components(np.empty((0, len(directions))), directions)
    mean = values.mean(axis=0, dtype=np.float64)
    scores = np.empty((len(values), n_components), dtype=np.float32)
    for begin in range(0, len(values), _BLOCK):
        scores[begin : begin + _BLOCK] = (values[begin : begin + _BLOCK] - mean) @ directions.T
    return scores, directions.T.astype(np.float32), share


def scaled_components(
    matrix: Any, n_components: int, *, clip: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the components of standardised, clipped columns of a Dask array of CSR blocks.

    What :func:`principal_components` gives for the same values in memory: three passes over the
    blocks (moments, means after clipping, covariance) and one for the scores; a block is dense.
    """
    mean, spread = _moments(matrix)
    scale = partial(_scaled, mean=mean, spread=spread, clip=clip)
    return _components_of_blocks(matrix, scale, min(n_components, *matrix.shape))


def _components_of_blocks(
    matrix: Any, dense: Callable[[Any], np.ndarray], n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, width = matrix.shape

    def total(block: Any) -> np.ndarray:
        return dense(block).sum(axis=0, dtype=np.float64)[None]

    centre = sum_over_blocks(total, matrix, shape=(1, width))[0] / n

    def gram(block: Any) -> np.ndarray:
        centred = dense(block) - centre
        return np.asarray(centred.T @ centred)

    directions, share = _leading(sum_over_blocks(gram, matrix, shape=(width, width)), n_components)
    _, directions = signed_components(np.empty((0, len(directions))), directions)
    scores = rows_to_values(
        lambda b: (dense(b) - centre) @ directions.T, matrix, width=n_components
    )
    return scores.astype(np.float32), directions.T.astype(np.float32), share


def _moments(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    n, width = matrix.shape

    def sums(block: Any) -> np.ndarray:
        values = block.data.astype(np.float64)
        both = [np.bincount(block.indices, w, width) for w in (values, values**2)]
        return np.stack(both)

    total, square = sum_over_blocks(sums, matrix, shape=(2, width))
    variance = np.maximum(square - total**2 / n, 0) / max(n - 1, 1)
    spread = np.sqrt(variance)
    return total / n, np.where(spread > 0, spread, 1.0)


def _scaled(block: Any, *, mean: np.ndarray, spread: np.ndarray, clip: float) -> np.ndarray:
    return np.clip((block.toarray().astype(np.float64) - mean) / spread, -clip, clip)


def _exact(values: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    mean = values.mean(axis=0, dtype=np.float64)
    gram = np.zeros((values.shape[1], values.shape[1]))
    for begin in range(0, len(values), _BLOCK):
        block = values[begin : begin + _BLOCK] - mean
        gram += block.T @ block
    return _leading(gram, n_components)


def _leading(gram: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import eigh

    total = max(float(np.trace(gram)), np.finfo(np.float64).tiny)
    first = len(gram) - n_components
    variance, directions = eigh(gram, subset_by_index=(first, len(gram) - 1))
    return directions[:, ::-1].T, np.maximum(variance[::-1], 0) / total


def _randomized(values: np.ndarray, n_components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import PCA

    model = PCA(
        n_components=n_components,
        svd_solver="randomized",
        iterated_power=7,
        n_oversamples=20,
        random_state=seed,
    )
    model.fit(values)
    return model.components_.astype(np.float64), model.explained_variance_ratio_
