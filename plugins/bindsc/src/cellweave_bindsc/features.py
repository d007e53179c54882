"""Features in the space of cells: how each goes with each canonical axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.columns import column_means

__all__ = ["correlation_with", "imputed"]


def correlation_with(values: Any, scores: np.ndarray) -> np.ndarray:
    """Return ``(n_features, k)`` correlations of the columns of ``values`` with the scores."""
    n = len(scores)
    _mean, spread = _moments(values)
    centred = scores - scores.mean(axis=0)
    cross = np.asarray(values.T @ centred) / n
    size = np.outer(spread, centred.std(axis=0))
    return (cross / np.where(size > 1e-12, size, np.inf)).astype(np.float32)


def imputed(values: Any, target_scores: np.ndarray, source_scores: np.ndarray) -> np.ndarray:
    """Return the target's features in the source's cells, in the units of ``values``.

    Both scores have unit variance, so ``Cov(values, score)`` is the slope on either side. Results
    are kept within what was observed.
    """
    n = len(target_scores)
    mean, _ = _moments(values)
    centred = target_scores - target_scores.mean(axis=0)
    slope = np.asarray(values.T @ centred) / n
    raw = mean + (source_scores - source_scores.mean(axis=0)) @ slope.T
    low, high = _range(values)
    return np.clip(raw, low, high).astype(np.float32)


def _moments(values: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(values, sp.spmatrix | sp.sparray):
        matrix: Any = values
        square = column_means(matrix.power(2))
    else:
        square = np.einsum("ij,ij->j", values, values, dtype=np.float64) / len(values)
    mean = column_means(values)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def _range(values: Any) -> tuple[np.ndarray, np.ndarray]:
    if sp.issparse(values):
        matrix: Any = values
        return matrix.min(axis=0).toarray().ravel(), matrix.max(axis=0).toarray().ravel()
    return values.min(axis=0), values.max(axis=0)
