"""Write the pairs of two sets of intervals that overlap, query by query, after all is sorted.

Targets are sorted by start. Those that start inside a query are one range of them; those that
start before it and reach into it are found from their side, as the queries that start strictly
inside a target, again one range. Every pair is met once, so the work is that of the pairs alone,
however long the longest interval is.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["count_overlaps", "write_overlaps"]


@njit(cache=True, nogil=True)
def count_overlaps(
    begin: np.ndarray, end: np.ndarray, first_query: np.ndarray, last_query: np.ndarray
) -> np.ndarray:
    """Count the targets of each sorted query.

    Parameters
    ----------
    begin, end
        Range of the sorted targets that start inside each sorted query.
    first_query, last_query
        Range of the sorted queries that start strictly inside each sorted target.
    """
    steps = np.zeros(len(begin) + 1, dtype=np.int64)
    for t in range(len(first_query)):
        if last_query[t] > first_query[t]:
            steps[first_query[t]] += 1
            steps[last_query[t]] -= 1
    counts = np.empty(len(begin), dtype=np.int64)
    reaching = 0
    for q in range(len(begin)):
        reaching += steps[q]
        counts[q] = reaching + max(end[q] - begin[q], 0)
    return counts


@njit(cache=True, nogil=True)
def write_overlaps(
    begin: np.ndarray,
    end: np.ndarray,
    first_query: np.ndarray,
    last_query: np.ndarray,
    names: np.ndarray,
    starts: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the targets of each sorted query to ``out[starts[q]:]``, by rising name.

    Parameters
    ----------
    begin, end, first_query, last_query
        As in :func:`count_overlaps`.
    names
        Name (position in the input) of each sorted target.
    starts
        Where the targets of each sorted query begin in ``out``.
    out
        As long as there are pairs.
    """
    filled = starts.copy()
    for t in range(len(first_query)):
        for q in range(first_query[t], last_query[t]):
            out[filled[q]] = names[t]
            filled[q] += 1
    for q in range(len(begin)):
        at = filled[q]
        for t in range(begin[q], end[q]):
            out[at] = names[t]
            at += 1
        _sort_if_needed(out[starts[q] : at])


@njit(cache=True, nogil=True)
def _sort_if_needed(values: np.ndarray) -> None:
    """Sort in place; files come in the order of the genome, so mostly there is nothing to do."""
    for i in range(1, len(values)):
        if values[i] < values[i - 1]:
            values.sort()
            return
