"""Values that may be sparse or dense, looked at in one way."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = ["dense", "is_sparse", "spoil", "stored"]


def is_sparse(values: Any) -> bool:
    """Tell whether values are stored sparse."""
    return bool(sp.issparse(values))


def dense(values: Any) -> np.ndarray:
    """Return values as a dense array."""
    return np.asarray(values.toarray() if is_sparse(values) else values)


def stored(values: Any) -> np.ndarray:
    """Return the stored values, without a copy where that can be."""
    return values.data if is_sparse(values) else np.asarray(values)


def spoil(values: Any, n: int = 5) -> None:
    """Write NaN over the first stored values, in place."""
    stored(values).reshape(-1)[:n] = np.nan
