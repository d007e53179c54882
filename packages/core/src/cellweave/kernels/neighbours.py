"""Nearest neighbours between two sets of cells: exact by tiles, approximate for very many.

Exact means: the same cells as a full float64 distance matrix gives, equal distances ordered by
row number. Candidates come from a float32 matrix product, are measured again in float64, and a row
whose candidates float32 rounding could have cut short is searched again in full.
Above ``exact_up_to`` cells the search goes through pynndescent (Dong, Moses and Li, WWW 2011).
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.errors import DataError
from cellweave.kernels.distances import Prepared, as_points, error_scale, prepare_pair
from cellweave.kernels.distances import squared_distance as _squared_distance

__all__ = ["nearest"]

EXACT_UP_TO = 50_000
_ROWS, _COLS = 128, 4096


def nearest(
    queries: np.ndarray,
    reference: np.ndarray | None = None,
    k: int = 15,
    *,
    metric: str = "euclidean",
    exclude_self: bool = False,
    exact_up_to: int = EXACT_UP_TO,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` nearest rows of ``reference`` for each row of ``queries``.

    Parameters
    ----------
    queries, reference
        ``(n, d)`` and ``(m, d)``; without ``reference`` the queries are searched among
        themselves.
    k
        Number of neighbours.
    metric
        ``"euclidean"`` or ``"cosine"`` (distance ``1 − cos``).
    exclude_self
        Leave out row ``i`` of the reference for query ``i``.
    exact_up_to
        Up to this many reference rows the search is exact.
    seed
        For the approximate search.

    Returns
    -------
    Indices ``(n, k)`` int64 and distances ``(n, k)`` float64, nearest first.
    """
    x = as_points(queries, metric=metric, name="queries")
    y = x if reference is None else as_points(reference, metric=metric, name="reference")
    available = len(y) - int(exclude_self)
    if not 1 <= k <= available:
        msg = (
            f"k={k!r} neighbours were asked for, {available} can be had. "
            f"Give k from 1 to {available}."
        )
        raise DataError(msg)
    if exclude_self and len(x) != len(y):
        msg = (
            f"`exclude_self` pairs row i with row i, but there are {len(x)} queries and {len(y)} "
            "reference rows. Leave `reference` out, or `exclude_self`."
        )
        raise DataError(msg)
    if len(y) <= exact_up_to:
        indices, squared = _exact(prepare_pair(x, y), k, exclude_self)
    else:
        indices, squared = _approximate(x, y, k, exclude_self, seed)
    return indices, squared / 2 if metric == "cosine" else np.sqrt(squared)


def _exact(data: Prepared, k: int, exclude_self: bool) -> tuple[np.ndarray, np.ndarray]:
    n_rows, n_cols = len(data.x), len(data.y)
    width = min(n_cols - int(exclude_self), k + 8 + k // 8)
    indices = np.empty((n_rows, k), dtype=np.int64)
    squared = np.empty((n_rows, k), dtype=np.float64)
    tile = np.empty(_ROWS * _COLS, dtype=np.float32)
    margin = error_scale(data.x.shape[1]) * data.yy.max(initial=0.0)
    for start in range(0, n_rows, _ROWS):
        rows = slice(start, min(start + _ROWS, n_rows))
        left = data.x32[rows]
        values = np.full((len(left), width), np.inf, dtype=np.float32)
        found = np.full((len(left), width), -1, dtype=np.int64)
        for first in range(0, n_cols, _COLS):
            right = data.y32[first : first + _COLS]
            product = tile[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=product)
            skip = start if exclude_self else -n_rows - 1
            _merge(product, data.xx[rows], data.yy[first : first + _COLS], first, skip,
                   values, found)  # fmt: skip
        cutoff = values[:, 0] if width < n_cols - int(exclude_self) else np.full(len(left), np.inf)
        own_margin = margin + error_scale(data.x.shape[1]) * data.xx[rows]
        limits = (cutoff.astype(np.float64) - own_margin) * data.scale**2
        _refine(data.x, data.y, start, found, limits, exclude_self, indices[rows], squared[rows])
    return indices, squared


def _approximate(
    x: np.ndarray, y: np.ndarray, k: int, exclude_self: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    from pynndescent import NNDescent

    width = k + int(exclude_self)
    index = NNDescent(
        y.astype(np.float32), n_neighbors=max(width + 5, 30), random_state=seed, low_memory=True
    )
    if x is y:
        found = index.neighbor_graph[0][:, : width + 4]
    else:
        found = index.query(x.astype(np.float32), k=min(width + 4, len(y)), epsilon=0.2)[0]
    indices = np.empty((len(x), k), dtype=np.int64)
    squared = np.empty((len(x), k), dtype=np.float64)
    never = np.full(len(x), np.inf)
    _refine(x, y, 0, found.astype(np.int64), never, exclude_self, indices, squared)
    return indices, squared


# Each row keeps its `width` smallest values as a max-heap: the root is the one to beat.
@njit(cache=True, nogil=True)
def _merge(product, xx, yy, first, skip, values, found):  # type: ignore[no-untyped-def]
    n_rows, n_cols = product.shape
    two = np.float32(2.0)
    for i in range(n_rows):
        line, heap, ids, norm = product[i], values[i], found[i], xx[i]
        own = skip + i - first
        worst = heap[0]
        for j in range(n_cols):
            value = norm + yy[j] - two * line[j]
            if value < worst and j != own:
                _replace_root(heap, ids, value, first + j)
                worst = heap[0]


@njit(cache=True, nogil=True)
def _replace_root(heap, ids, value, index):  # type: ignore[no-untyped-def]
    size, at = len(heap), 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= value:
            break
        heap[at], ids[at] = heap[child], ids[child]
        at = child
    heap[at], ids[at] = value, index


@njit(cache=True, nogil=True)
def _refine(x, y, start, found, limits, exclude_self, indices, squared):  # type: ignore[no-untyped-def]
    """Measure candidates in float64 and sort them; search the whole row where they fall short."""
    k = indices.shape[1]
    for i in range(len(found)):
        row = start + i
        candidates = found[i]
        if exclude_self:
            candidates = candidates[candidates != row]
        candidates = np.sort(candidates[candidates >= 0])
        exact = _measure(x[row], y, candidates)
        order = np.argsort(exact, kind="mergesort")
        if len(order) < k or (np.isfinite(limits[i]) and not exact[order[k - 1]] < limits[i]):
            candidates = np.arange(len(y))
            if exclude_self:
                candidates = candidates[candidates != row]
            exact = _measure(x[row], y, candidates)
            order = np.argsort(exact, kind="mergesort")
        for j in range(k):
            indices[i, j] = candidates[order[j]]
            squared[i, j] = exact[order[j]]


@njit(cache=True, nogil=True)
def _measure(point, y, candidates):  # type: ignore[no-untyped-def]
    out = np.empty(len(candidates))
    for j in range(len(candidates)):
        out[j] = _squared_distance(point, y[candidates[j]])
    return out
