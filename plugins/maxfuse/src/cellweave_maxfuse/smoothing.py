"""Fuzzy smoothing: a cell's values and those of its neighbours in all features, averaged.

``A ← w A + (1 − w) S A``, ``S`` the average over the nearest cells of the same modality. It lends
the strength of all features to the few linked ones.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.neighbours import nearest

__all__ = ["neighbour_graph", "neighbours", "smooth"]

# Exact search is a matrix product; the approximate one only pays beyond this many cells.
_EXACT_UP_TO = 150_000


def neighbours(representation: np.ndarray, k: int) -> np.ndarray:
    """Return the ``(n, k)`` nearest other cells of each cell, nearest first."""
    k = max(min(k, len(representation) - 1), 1)
    return nearest(representation, k=k, exclude_self=True, exact_up_to=_EXACT_UP_TO)[0]


def neighbour_graph(found: np.ndarray, k: int) -> sp.csr_matrix:
    """Return the ``(n, n)`` averaging operator over each cell and its ``k - 1`` nearest."""
    n = len(found)
    near = np.concatenate([np.arange(n)[:, None], found[:, : k - 1]], axis=1)
    data = np.full(near.size, 1.0 / near.shape[1], dtype=np.float32)
    index = near.astype(np.int32).ravel()
    starts = np.arange(0, near.size + 1, near.shape[1])
    return sp.csr_matrix((data, index, starts), shape=(n, n))


def smooth(
    graph: sp.csr_matrix, values: np.ndarray, *, weight: float, steps: int = 1
) -> np.ndarray:
    """Return smoothed values; ``weight`` is that of the cell itself, 1 means no smoothing."""
    if weight == 1:
        return values
    for _ in range(steps):
        values = np.float32(weight) * values + np.float32(1 - weight) * (graph @ values)
    return values
