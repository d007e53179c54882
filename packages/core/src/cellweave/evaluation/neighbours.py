"""Nearest neighbours for metrics; the search itself is shared, see ``cellweave.kernels``."""

from __future__ import annotations

import numpy as np

from cellweave.kernels.neighbours import nearest

__all__ = ["nearest", "percent_of", "within"]


def percent_of(n: int, *, at_least: int = 1) -> int:
    """Return 1 % of ``n``, at least ``at_least`` and less than ``n``."""
    return max(1, min(max(round(0.01 * n), at_least), n - 1))


def within(points: np.ndarray, k: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` nearest other cells of each cell."""
    return nearest(points, k=k, exclude_self=True, seed=seed)
