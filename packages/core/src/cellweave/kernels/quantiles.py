"""Which bins a distinct value may have, by counting the quantile edges below it.

Edge ``e`` of ``numpy.quantile(v, linspace(0, 1, n))`` stands at place ``p = e / (n - 1) · last``
of the sorted entries and is interpolated between two neighbours. An edge whose neighbours are equal
equals them, so only the rare ones between two distinct values are worked out; all others are
counted from their places.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["admissible", "choose", "one_of"]


@njit(cache=True, nogil=True)
def choose(level, step, ends, places, ties, below, upto, choices):  # type: ignore[no-untyped-def]
    """Write the choice of each level at its code: first bin, and in the upper half how many.

    Parameters
    ----------
    level, step, ends
        Distinct values, never falling; their codes; how many entries are at or below each.
    places
        Scratch, one an edge.
    ties
        0: any bin whose edge the value equals; 1: the lowest; 2: the highest.
    below, upto
        Scratch as long as ``level``: edges below a value, and at or below it.
    choices
        Written.
    """
    _place_edges(np.float64(ends[-1]) - 1.0, places)
    _count_edges(level, ends, places, below, upto)
    for d in range(len(level)):
        first, many = admissible(below[d], upto[d], ties)
        choices[step[d]] = first | (many << np.uint32(16))


@njit(cache=True, nogil=True)
def _place_edges(last, places):  # type: ignore[no-untyped-def]
    width = 1.0 / (len(places) - 1)
    for e in range(len(places) - 1):
        places[e] = (e * width) * last
    places[len(places) - 1] = last


@njit(cache=True, nogil=True)
def _count_edges(level, ends, places, below, upto):  # type: ignore[no-untyped-def]
    n, before, alike = len(places), 0, False
    rate = (n - 1) / max(np.float64(ends[-1]) - 1.0, 1.0)
    for d in range(len(level)):
        end = np.float64(ends[d])
        # Edges whose place lies before the end of this level: a guess, corrected by rounding.
        e = min(int(np.ceil(end * rate)), n)
        while e > 0 and places[e - 1] >= end:
            e -= 1
        while e < n and places[e] < end:
            e += 1
        below[d], upto[d], before = before, e, e
        if d + 1 < len(level) and e > 0 and places[e - 1] >= end - 1.0:
            upto[d], before = _between(level[d], level[d + 1], places[:e], end - 1.0)
        alike |= d > 0 and level[d] == level[d - 1]
    if alike:
        _count_alike(level, below, upto)


@njit(cache=True, nogil=True)
def _between(lower, upper, places, low):  # type: ignore[no-untyped-def]
    """Count edges at or below ``lower``, and below ``upper``; those beyond ``low`` lie between."""
    first = len(places)
    while first > 0 and places[first - 1] >= low:
        first -= 1
    upto, below = first, first
    for e in range(first, len(places)):
        edge = _quantile(lower, upper, places[e] - low)
        upto += edge <= lower
        below += edge < upper
    return upto, below


@njit(cache=True, nogil=True)
def _count_alike(level, below, upto):  # type: ignore[no-untyped-def]
    """Values that scaling made equal have the same edges below them and at them."""
    for d in range(1, len(level)):
        if level[d] == level[d - 1]:
            below[d] = below[d - 1]
    for d in range(len(level) - 2, -1, -1):
        if level[d] == level[d + 1]:
            upto[d] = upto[d + 1]


@njit(cache=True, nogil=True, inline="always")
def _quantile(below, above, weight):  # type: ignore[no-untyped-def]
    step = np.float64(np.float32(above - below))
    if weight >= 0.5:
        return np.float64(above) - step * (1.0 - weight)
    return np.float64(below) + step * weight


@njit(cache=True, nogil=True, inline="always")
def admissible(below, upto, ties):  # type: ignore[no-untyped-def]
    """Give the first bin of a value between two counts of edges, and how many it may have."""
    if upto <= below + 1 or ties == 2:
        return np.uint32(max(upto, 1)), np.uint32(1)
    return np.uint32(below + 1), np.uint32(1 if ties == 1 else upto - below)


@njit(cache=True, nogil=True, inline="always")
def one_of(choice, chance):  # type: ignore[no-untyped-def]
    """Give the first bin of a choice and more: the upper half of chance times how many."""
    first, many = choice & np.uint32(0xFFFF), choice >> np.uint32(16)
    more = np.uint32((np.uint64(chance) * np.uint64(many)) >> np.uint64(32))
    return np.float32(np.int32(first + more))
