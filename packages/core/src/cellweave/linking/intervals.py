"""Join sorted half-open intervals: every pair within a reach, found once, by searches alone.

Two intervals overlap in exactly one of two ways: the target starts inside the query
(``q.start <= t.start < q.end``), or the query starts strictly inside the target
(``t.start < q.start < t.end``). Each is a range of a sorted array, so the join costs
``O((n + m) log(n + m) + pairs)`` however long the longest interval is.
"""

from __future__ import annotations

import numpy as np

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
    first = _starts_within(query_starts, query_ends, target_starts, side="left")
    second = _starts_within(target_starts, target_ends, query_starts, side="right")
    i = np.concatenate([first[0], second[1]])
    j = np.concatenate([first[1], second[0]])
    # One number a pair: sorting numbers is several times faster than sorting by two keys.
    pairs = np.sort(at_query[i] * np.int64(max(len(target[0]), 1)) + at_target[j])
    return np.divmod(pairs, np.int64(max(len(target[0]), 1)))


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


def _starts_within(
    starts: np.ndarray, ends: np.ndarray, points: np.ndarray, *, side: str
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(points, kind="stable")
    placed = points[order]
    begin = np.searchsorted(placed, starts, side=side)  # type: ignore[call-overload]
    end = np.searchsorted(placed, ends, side="left")
    owner, position = ragged_ranges(begin, end)
    return owner, order[position]
