"""Means of the columns of a matrix in double precision, dense or sparse.

scipy adds the values of a sparse float32 matrix in float32, whatever ``dtype`` is asked for: over
100 000 cells that is off by 5e-6 of the mean, which variances and correlations then inherit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = ["column_means"]


def column_means(values: Any) -> np.ndarray:
    """Return the mean of every column in float64; a sparse matrix stays sparse."""
    n_rows = values.shape[0]
    if not sp.issparse(values):
        return np.asarray(values.mean(axis=0, dtype=np.float64)).ravel()
    return np.asarray(np.ones(n_rows) @ values).ravel() / n_rows
