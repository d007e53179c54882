"""Metacells: groups of near neighbours, by partitioning the neighbour graph.

Seeds are a maximal independent set of the graph of each cell's nearest few (Luby 1986, with fixed
priorities), so that no two seeds are neighbours and every cell has a seed among its own; each cell
joins the seed that is nearest. No cell is left out, and no distance beyond the graph is computed.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

__all__ = ["averaging", "metacells"]


def metacells(found: np.ndarray, size: int) -> np.ndarray:
    """Return the ``(n,)`` metacell of each cell, about ``size`` cells in each.

    Parameters
    ----------
    found
        ``(n, k)`` nearest other cells, nearest first; ``1.5 * size`` of them are used.
    size
        Wanted mean number of cells; 1 leaves every cell alone.
    """
    if size <= 1 or len(found) <= size:
        return np.arange(len(found))
    # Independence thins a symmetric k-neighbour graph to about one seed in k / 1.5 cells.
    near = np.ascontiguousarray(found[:, : max(2, round(1.5 * size))])
    return _joined(near, _seeds(near))


def averaging(groups: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return the ``(g, n)`` operator that averages groups, and the group sizes."""
    counts = np.bincount(groups)
    data = (1.0 / counts[groups]).astype(np.float32)
    shape = (len(counts), len(groups))
    return sp.csr_matrix((data, (groups, np.arange(len(groups)))), shape=shape), counts


def _seeds(found: np.ndarray) -> np.ndarray:
    n, k = found.shape
    starts = np.arange(0, n * k + 1, k)
    out = sp.csr_matrix((np.ones(n * k, dtype=np.int8), found.ravel(), starts), shape=(n, n))
    graph = (out + out.T).tocsr()
    priority = np.random.default_rng(0).permutation(n) + 1
    state = np.zeros(n, dtype=np.int8)  # 0 open, 1 seed, -1 taken
    while (state == 0).any():
        bid = np.where(state == 0, priority, 0)
        # Every row has neighbours, so `reduceat` never meets an empty slice.
        rival = np.maximum.reduceat(bid[graph.indices], graph.indptr[:-1])
        new = (state == 0) & (bid > rival)
        state[new] = 1
        beside = graph[new].indices
        state[beside[state[beside] == 0]] = -1
    return state == 1


def _joined(found: np.ndarray, is_seed: np.ndarray) -> np.ndarray:
    """Join each cell to its nearest seed; one met only from the seed's side joins that seed."""
    n = len(found)
    owner = np.where(is_seed, np.arange(n), -1)
    for seed in (found[is_seed].T)[::-1]:
        owner[seed[~is_seed[seed]]] = np.flatnonzero(is_seed)[~is_seed[seed]]
    for at in range(found.shape[1] - 1, -1, -1):
        near = found[:, at]
        takes = ~is_seed & is_seed[near]
        owner[takes] = near[takes]
    codes: np.ndarray = np.unique(owner, return_inverse=True)[1]
    return codes
