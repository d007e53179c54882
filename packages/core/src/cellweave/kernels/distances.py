"""Certified comparisons of Euclidean distances: float32 GEMM for speed, float64 where it matters.

``|x − y|² = |x|² + |y|² − 2 x·y`` turns distances into one matrix product, but its rounding can
swap two distances that are nearly equal. The rounding is bounded by
``(d + 8) · 2⁻²⁴ · (|x|² + |y|²)``; a comparison decided by less than that is made again in float64
from the coordinates. So the result is the one of the plain float64 form, ties included.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cellweave.errors import ConfigError, DataError, one_of

__all__ = ["METRICS", "Prepared", "as_points", "closer_counts", "error_scale", "prepare_pair"]

METRICS = ("euclidean", "cosine")
_ROWS, _COLS = 128, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Two sets of points: as given, and in float32 around a common centre with squared norms."""

    x: np.ndarray
    y: np.ndarray
    x32: np.ndarray
    y32: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    scale: float

    def swapped(self) -> Prepared:
        """Exchange the two sets."""
        return Prepared(
            x=self.y, y=self.x, x32=self.y32, y32=self.x32, xx=self.yy, yy=self.xx, scale=self.scale
        )


def as_points(values: np.ndarray, *, metric: str, name: str) -> np.ndarray:
    """Return float64 rows, of unit length for ``"cosine"``; refuse what has no distances."""
    if metric not in METRICS:
        msg = f"Metric {metric!r} is not known. Use one of: {one_of(METRICS)}."
        raise ConfigError(msg)
    points = np.ascontiguousarray(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] == 0:
        msg = f"`{name}` has shape {points.shape}. Expected one row of coordinates per cell."
        raise DataError(msg)
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        msg = f"`{name}` holds NaN or infinity in row {row}. Remove or mend such cells first."
        raise DataError(msg)
    if metric == "cosine":
        norms = np.linalg.norm(points, axis=1, keepdims=True)
        points = points / np.where(norms > 0, norms, 1.0)
    return points


def prepare_pair(x: np.ndarray, y: np.ndarray) -> Prepared:
    """Centre both sets on their common mean and scale them: small norms mean small rounding."""
    if x.shape[1] != y.shape[1]:
        msg = f"Points have {x.shape[1]} and {y.shape[1]} coordinates. Expected one common space."
        raise DataError(msg)
    centre = (x.sum(axis=0) + y.sum(axis=0)) / max(len(x) + len(y), 1)
    spread = max(np.abs(x - centre).max(initial=0.0), np.abs(y - centre).max(initial=0.0)) or 1.0
    x32 = ((x - centre) / spread).astype(np.float32)  # clear of float32 overflow and underflow
    y32 = ((y - centre) / spread).astype(np.float32)
    return Prepared(
        x=x, y=y, x32=x32, y32=y32, xx=_squared_norms(x32), yy=_squared_norms(y32), scale=spread
    )


def error_scale(n_coordinates: int) -> np.float32:
    """Return ``c`` so that ``c · (|x|² + |y|²)`` bounds the rounding of one squared distance."""
    return np.float32((n_coordinates + 8) * 2.0**-23)


def closer_counts(
    x: np.ndarray,
    y: np.ndarray,
    *,
    metric: str = "euclidean",
    queries: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Count, for every cell, the cells of the other set that are closer than its own partner.

    Parameters
    ----------
    x, y
        ``(n, d)`` coordinates; row ``i`` of one is the partner of row ``i`` of the other.
    metric
        ``"euclidean"`` or ``"cosine"``.
    queries
        Rows to count for; all when not given. Every row stays a competitor.

    Returns
    -------
    Counts from ``x`` to ``y`` and from ``y`` to ``x``, int64, one per query. The own pair never
    counts; neither does a tie. Memory is one tile.
    """
    x, y = as_points(x, metric=metric, name="x"), as_points(y, metric=metric, name="y")
    if len(x) != len(y):
        msg = f"`x` has {len(x)} and `y` {len(y)} rows. Expected pairs: the same number in both."
        raise DataError(msg)
    data = prepare_pair(x, y)
    if queries is None:
        return _count(data, np.arange(len(x)), both=True)
    rows = np.asarray(queries, dtype=np.int64)
    return _count(data, rows, both=False)[0], _count(data.swapped(), rows, both=False)[0]


def _count(data: Prepared, rows: np.ndarray, *, both: bool) -> tuple[np.ndarray, np.ndarray]:
    own = paired_squared_distances(data.x, data.y)
    own32 = (own / data.scale**2).astype(np.float32)
    scale = error_scale(data.x.shape[1])
    by_row = np.zeros(len(rows), dtype=np.int64)
    by_col = np.zeros(len(data.y), dtype=np.int64)
    tile = np.empty(_ROWS * _COLS, dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        left, of_rows = data.x32[block], by_row[start : start + len(block)]
        for first in range(0, len(data.y), _COLS):
            right = data.y32[first : first + _COLS]
            product = tile[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=product)
            _count_tile(
                product, block, first, data.x, data.y, data.xx, data.yy, own, own32,
                scale, of_rows, by_col, both,
            )  # fmt: skip
    return by_row, by_col


def _squared_norms(points: np.ndarray) -> np.ndarray:
    wide = points.astype(np.float64)
    return np.einsum("ij,ij->i", wide, wide).astype(np.float32)


@njit(cache=True, nogil=True)
def squared_distance(a, b):  # type: ignore[no-untyped-def]
    """Return the squared distance of two points, summed in order."""
    total = 0.0
    for k in range(len(a)):
        total += (a[k] - b[k]) ** 2
    return total


@njit(cache=True, nogil=True)
def paired_squared_distances(x, y):  # type: ignore[no-untyped-def]
    """Return the squared distance of each row of ``x`` to the same row of ``y``."""
    out = np.empty(len(x))
    for i in range(len(x)):
        out[i] = squared_distance(x[i], y[i])
    return out


# Counters are float32 so that they share the vector lanes of the distances; a tile is far smaller
# than 2^24, so they stay exact, and `reassoc` (order of sums) cannot change them.
@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "nnan"})
def _count_tile(  # type: ignore[no-untyped-def]  # noqa: C901 - one pass over one tile
    product,
    block,
    first,
    x,
    y,
    xx,
    yy,
    own,
    own32,
    scale,
    by_row,
    by_col,
    both,
):
    """Count a tile; a row with a comparison that float32 cannot decide is counted by itself."""
    n_rows, n_cols = product.shape
    zero, one, two = np.float32(0.0), np.float32(1.0), np.float32(2.0)
    slack = np.float32(2.0**-23)  # `own32` itself was rounded
    hits, of_line = np.zeros(n_cols, dtype=np.float32), np.empty(n_cols, dtype=np.float32)
    right, own_right = yy[first : first + n_cols], own32[first : first + n_cols]
    for i in range(n_rows):
        row, line = block[i], product[i]
        norm, mine = xx[row], own32[row]
        slack_row = mine * slack
        count, unsure = zero, zero
        for j in range(n_cols):
            norms = norm + right[j]
            gap = norms - two * line[j] - mine
            band = scale * norms + slack_row
            count += one if gap < -band else zero
            unsure += one if abs(gap) <= band else zero
        if both:
            for j in range(n_cols):
                norms = norm + right[j]
                gap = norms - two * line[j] - own_right[j]
                band = scale * norms + slack * own_right[j]
                of_line[j] = one if gap < -band else zero
                unsure += one if abs(gap) <= band else zero
        expected = zero
        if first <= row < first + n_cols:
            expected = two if both else one  # the own pair is always within its band
        if unsure > expected:
            by_row[i] += _count_line(
                line, row, first, x, y, norm, yy, own, own32, scale, by_col, both
            )
            continue
        by_row[i] += np.int64(count)
        if both:
            for j in range(n_cols):
                hits[j] += of_line[j]
    if both:
        for j in range(n_cols):
            by_col[first + j] += np.int64(hits[j])


@njit(cache=True, nogil=True)
def _count_line(  # type: ignore[no-untyped-def]
    line,
    row,
    first,
    x,
    y,
    norm,
    yy,
    own,
    own32,
    scale,
    by_col,
    both,
):
    """Count one row of a tile, deciding near ties in float64 from the coordinates."""
    slack, count = np.float32(2.0**-22), 0
    for j in range(len(line)):
        col = first + j
        if col == row:
            continue
        norms = norm + yy[col]
        value = norms - np.float32(2.0) * line[j]
        band = np.float32(2.0) * scale * norms
        to_row, to_col = value - own32[row], value - own32[col]
        near_row = abs(to_row) <= band + slack * own32[row]
        near_col = both and abs(to_col) <= band + slack * own32[col]
        exact = squared_distance(x[row], y[col]) if near_row or near_col else 0.0
        count += exact < own[row] if near_row else to_row < 0
        if both:
            by_col[col] += exact < own[col] if near_col else to_col < 0
    return count
