"""Silhouette widths without the distance matrix: tiles of a matrix product, summed per label.

Each distance is taken once and added up for both of its cells, which wants a sum for every cell
and label; where these would be too many, every cell sums its own.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["silhouette_widths"]

_ROWS, _COLS = 128, 1024
_MOST_SUMS = 1 << 26


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
    norms, ends = np.einsum("ij,ij->i", x, x), np.cumsum(counts)
    tile = np.empty(_ROWS * _COLS)
    both = len(x) * len(counts) <= _MOST_SUMS
    sums = np.zeros((len(x) if both else _ROWS, len(counts)))
    widths = np.empty(len(x))
    for start in range(0, len(x), _ROWS):
        stop = min(start + _ROWS, len(x))
        if not both:
            sums[:] = 0
        own = sums[start:stop] if both else sums[: stop - start]
        _add_block(x, norms, ends, (start, stop), tile, own, sums if both else None)
        _widths(own, codes[order[start:stop]], counts, widths[start:stop])
    out = np.empty(len(x))
    out[order] = widths
    return out


def _add_block(
    x: np.ndarray,
    norms: np.ndarray,
    ends: np.ndarray,
    rows: tuple[int, int],
    tile: np.ndarray,
    own: np.ndarray,
    mirrored: np.ndarray | None,
) -> None:
    """Add the distances of some rows to all cells; mirrored, only to later cells and back."""
    start, stop = rows
    left = x[start:stop]
    first = start if mirrored is not None else 0
    while first < len(x):
        # the block itself comes first, alone: its distances are there in both directions
        last = stop if mirrored is not None and first == start else first + _COLS
        right = x[first:last]
        product = tile[: len(left) * len(right)].reshape(len(left), len(right))
        np.matmul(left, right.T, out=product)
        _add_distances(product, norms, start, first, ends, own)
        if mirrored is not None and first > start:
            _add_mirrored(product, start, first, ends, mirrored)
        first += len(right)


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _add_distances(product, norms, start, first, ends, sums):  # type: ignore[no-untyped-def]
    """Turn products into distances, and add them to the sums of the rows."""
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
                line[j] = np.sqrt(value if value > 0.0 else 0.0)
                total += line[j]
            sums[i, label] += total
            begin = max(begin, stop)


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _add_mirrored(distances, start, first, ends, sums):  # type: ignore[no-untyped-def]
    """Add distances to the sums of the columns; rows of a label stand side by side."""
    n_rows, n_cols = distances.shape
    total = np.empty(n_cols)
    begin = 0
    for label in range(len(ends)):
        stop = min(max(ends[label] - start, 0), n_rows)
        if stop <= begin:
            continue
        total[:] = distances[begin]
        for i in range(begin + 1, stop):
            line = distances[i]
            for j in range(n_cols):
                total[j] += line[j]
        for j in range(n_cols):
            sums[first + j, label] += total[j]
        begin = stop


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
