"""Linear assignment on cosine distances: solved on few candidate pairs, proved on all.

The sparse problem (the nearest candidates of every cell) is solved exactly by scipy's LAPJVsp. Its
dual variables, found as shortest paths over alternating edges, price every pair of the full problem
tile by tile; pairs of negative reduced cost join the candidates and the problem is solved again.
When none is left the sparse solution is optimal for the full problem, and that is its proof.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

__all__ = ["assign"]

_DENSE_UP_TO = 400_000
_ROUNDS = 12
_PATHS = 2000
_TOLERANCE = 2e-6
_TILE = 512
_SHIFT = 2.0  # keeps costs off zero, which the sparse solver takes for "no edge"


def assign(
    left: np.ndarray, right: np.ndarray, *, candidates: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Match every row of the smaller side to a row of its own; least total ``1 − cos``.

    Parameters
    ----------
    left, right
        ``(n, d)`` and ``(m, d)`` rows of unit length; not changed.
    candidates
        Nearest partners of each row to start from; more are added until the result is optimal.

    Returns
    -------
    Positions in ``left``, sorted, and in ``right``; ``min(n, m)`` of each.
    """
    if len(left) > len(right):
        cols, rows = assign(right, left, candidates=candidates)
        order = np.argsort(rows)
        return rows[order], cols[order]
    if left.shape[0] * right.shape[0] <= _DENSE_UP_TO:
        return _dense(left, right)
    solved = _sparse(left, right, candidates)
    return _dense(left, right) if solved is None else solved


def _dense(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = linear_sum_assignment(-(left @ right.T))
    return rows, cols


def _sparse(
    left: np.ndarray, right: np.ndarray, candidates: int
) -> tuple[np.ndarray, np.ndarray] | None:
    edges = np.unique(np.concatenate([_nearest(left, right, candidates), _ladder(left, right)]))
    for _ in range(_ROUNDS):
        costs = _costs(left, right, edges)
        partner = _solve(costs)
        duals = _duals(costs, partner)
        if duals is None:
            return None
        missing = _violations(left, right, *duals, candidates)
        missing = np.setdiff1d(missing, edges, assume_unique=False)
        if len(missing) == 0:
            return np.arange(len(left)), partner
        edges = np.union1d(edges, missing)
    return None


def _nearest(left: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """Return codes ``row · m + column`` of the ``k`` nearest of every row and column."""
    m = len(right)
    k = min(k, m, len(left))
    out = []
    for start in range(0, len(left), _TILE):
        near = left[start : start + _TILE] @ right.T
        best = np.argpartition(near, m - k, axis=1)[:, m - k :]
        out.append(((start + np.arange(len(near)))[:, None] * m + best).ravel())
    for start in range(0, m, _TILE):
        near = right[start : start + _TILE] @ left.T
        best = np.argpartition(near, len(left) - k, axis=1)[:, len(left) - k :]
        out.append((best * m + (start + np.arange(len(near)))[:, None]).ravel())
    return np.concatenate(out)


def _ladder(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pair rows along the first axis of spread: no good matching, but one always exists."""
    axis = np.linalg.eigh(right.T @ right)[1][:, -2 if right.shape[1] > 1 else -1]
    rows = np.argsort(left @ axis, kind="stable")
    cols = np.argsort(right @ axis, kind="stable")
    spread = np.linspace(0, len(right) - 1, len(left)).round().astype(np.int64)
    codes: np.ndarray = rows * len(right) + cols[spread]
    return codes


def _costs(left: np.ndarray, right: np.ndarray, edges: np.ndarray) -> sp.csr_matrix:
    m = len(right)
    rows, cols = edges // m, edges % m
    cosine = np.einsum("ij,ij->i", left[rows], right[cols], dtype=np.float64)
    return sp.csr_matrix((_SHIFT - cosine, (rows, cols)), shape=(len(left), m))


def _solve(costs: sp.csr_matrix) -> np.ndarray:
    rows, cols = min_weight_full_bipartite_matching(costs)
    partner = np.empty(costs.shape[0], dtype=np.int64)
    partner[rows] = cols
    return partner


def _duals(costs: sp.csr_matrix, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return row and column duals of an optimal matching by Bellman and Ford's relaxation."""
    n, m = costs.shape
    columns = costs.tocsc()
    rows = columns.indices
    own = np.asarray(costs[np.arange(n), partner]).ravel()
    step = columns.data - own[rows]
    origin = partner[rows]
    filled = np.flatnonzero(np.diff(columns.indptr))
    starts = columns.indptr[filled]
    v = np.zeros(m)
    for _ in range(_PATHS):
        reached = np.minimum.reduceat(v[origin] + step, starts)
        lower = np.minimum(v[filled], reached)
        if np.all(v[filled] - lower < 1e-12):
            return own - v[partner], v
        v[filled] = lower
    return None


def _violations(
    left: np.ndarray, right: np.ndarray, u: np.ndarray, v: np.ndarray, k: int
) -> np.ndarray:
    """Return the codes of pairs whose reduced cost is negative, the worst ``k`` of a row."""
    m = len(right)
    found = []
    for start in range(0, len(left), _TILE):
        reduced = _SHIFT - left[start : start + _TILE] @ right.T
        reduced -= u[start : start + _TILE, None].astype(np.float32)
        reduced -= v[None, :].astype(np.float32)
        worst = np.argpartition(reduced, min(k, m - 1), axis=1)[:, :k]
        values = np.take_along_axis(reduced, worst, axis=1)
        rows, at = np.nonzero(values < -_TOLERANCE)
        found.append((start + rows) * m + worst[rows, at])
    return np.concatenate(found)
