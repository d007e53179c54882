"""Join sorted half-open intervals: every pair within a reach, found once, by searches alone.

Two intervals overlap in exactly one of two ways: the target starts inside the query
(``q.start <= t.start < q.end``), or the query starts strictly inside the target
(``t.start < q.start < t.end``). Each is a range of a sorted array, so the join costs
``O((n + m) log(n + m) + pairs)`` however long the longest interval is.
"""

from __future__ import annotations

import numpy as np

from cellweave.kernels.intervals import count_overlaps, write_overlaps

__all__ = ["overlapping_pairs", "ragged_ranges", "signed_distance"]

# Chromosomes are laid end to end this far apart: longer than any genome plus any reach.
_STRIDE = np.int64(1) << 40


def overlapping_pairs(
    query: tuple[np.ndarray, np.ndarray, np.ndarray],
    target: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    reach: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions ``(i, j)`` of all pairs on one chromosome within ``reach``.

    Parameters
    ----------
    query, target
        ``(chromosome codes, starts, ends)``, integers, half-open, ``start < end``; any order.
        A negative code never meets anything.
    reach
        Largest BED distance: 0 means overlap, 1 lets intervals touch.

    Returns
    -------
    tuple of numpy.ndarray
        Int64 positions, sorted by query and then by target.
    """
    at_query, at_target = np.flatnonzero(query[0] >= 0), np.flatnonzero(target[0] >= 0)
    # |d| <= reach is the same as overlap after the query has grown by `reach` on both sides.
    query_starts, query_ends = _laid_out(query, at_query, grow=np.int64(reach))
    target_starts, target_ends = _laid_out(target, at_target, grow=np.int64(0))
    by_query = np.argsort(query_starts, kind="stable")
    by_target = np.argsort(target_starts, kind="stable")
    query_starts, target_starts = query_starts[by_query], target_starts[by_target]
    inside = (
        np.searchsorted(target_starts, query_starts, side="left"),
        np.searchsorted(target_starts, query_ends[by_query], side="left"),
    )
    reaching = (
        np.searchsorted(query_starts, target_starts, side="right"),
        np.searchsorted(query_starts, target_ends[by_target], side="left"),
    )
    counts = np.empty(len(by_query), dtype=np.int64)
    counts[by_query] = count_overlaps(*inside, *reaching)
    begins = np.cumsum(counts) - counts
    found = np.empty(int(counts.sum()), dtype=np.int64)
    write_overlaps(*inside, *reaching, at_target[by_target], begins[by_query], found)
    return np.repeat(at_query, counts), found


def signed_distance(
    left_starts: np.ndarray,
    left_ends: np.ndarray,
    right_starts: np.ndarray,
    right_ends: np.ndarray,
) -> np.ndarray:
    """Return the signed BED distance of pairs: 0 on overlap, negative when left comes first.

    Intervals that touch are 1 apart.
    """
    # What starts after the other's end is ahead by a positive number, and only one can be.
    after = np.maximum(left_starts - right_ends + 1, 0)
    before = np.maximum(right_starts - left_ends + 1, 0)
    return after - before


def ragged_ranges(begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spread ranges: the index of the range and the position, for every element of every range."""
    lengths = np.maximum(ends - begins, 0)
    owner = np.repeat(np.arange(len(begins)), lengths)
    offsets = np.cumsum(lengths) - lengths
    return owner, np.arange(lengths.sum()) - np.repeat(offsets - begins, lengths)


def _laid_out(
    intervals: tuple[np.ndarray, np.ndarray, np.ndarray], rows: np.ndarray, *, grow: np.int64
) -> tuple[np.ndarray, np.ndarray]:
    codes, starts, ends = (np.asarray(a)[rows].astype(np.int64) for a in intervals)
    return codes * _STRIDE + starts - grow, codes * _STRIDE + ends + grow
