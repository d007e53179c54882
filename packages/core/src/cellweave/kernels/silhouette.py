"""Silhouette widths without the distance matrix: tiles of a matrix product, summed per label."""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["silhouette_widths"]

_ROWS, _COLS = 128, 2048


def silhouette_widths(points: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return ``s = (b − a) / max(a, b)`` of each cell (Rousseeuw 1987), Euclidean, float64.

    Parameters
    ----------
    points
        ``(n, d)``.
    codes
        ``(n,)`` labels as integers from 0 without gaps; a label of one cell gives it width 0.
    """
    counts = np.bincount(codes)
    order = np.argsort(codes, kind="stable")  # equal labels side by side: sums run over stretches
    x = np.ascontiguousarray(points[order], dtype=np.float64)
    x -= x.mean(axis=0)
    norms = np.einsum("ij,ij->i", x, x)
    ends = np.cumsum(counts)
    tile = np.empty(_ROWS * _COLS)
    widths = np.empty(len(x))
    for start in range(0, len(x), _ROWS):
        left = x[start : start + _ROWS]
        sums = np.zeros((len(left), len(counts)))
        for first in range(0, len(x), _COLS):
            right = x[first : first + _COLS]
            product = tile[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=product)
            _add_distances(product, norms, start, first, ends, sums)
        _widths(sums, codes[order[start : start + _ROWS]], counts, widths[start : start + _ROWS])
    out = np.empty(len(x))
    out[order] = widths
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _add_distances(product, norms, start, first, ends, sums):  # type: ignore[no-untyped-def]
    n_rows, n_cols = product.shape
    right = norms[first : first + n_cols]
    for i in range(n_rows):
        norm, line = norms[start + i], product[i]
        at = start + i - first
        if 0 <= at < n_cols:
            line[at] = 0.5 * (norm + right[at])  # the distance of a cell to itself is 0, exactly
        begin = 0
        for label in range(len(ends)):
            stop = min(max(ends[label] - first, 0), n_cols)
            total = 0.0
            for j in range(begin, stop):
                value = norm + right[j] - 2.0 * line[j]
                total += np.sqrt(value if value > 0.0 else 0.0)
            sums[i, label] += total
            begin = max(begin, stop)


@njit(cache=True, nogil=True)
def _widths(sums, codes, counts, out):  # type: ignore[no-untyped-def]
    for i in range(len(sums)):
        own = codes[i]
        if counts[own] == 1:
            out[i] = 0.0
            continue
        inside = sums[i, own] / (counts[own] - 1)
        outside = np.inf
        for label in range(len(counts)):
            if label != own and counts[label] > 0:
                outside = min(outside, sums[i, label] / counts[label])
        larger = max(inside, outside)
        out[i] = (outside - inside) / larger if larger > 0 else 0.0
