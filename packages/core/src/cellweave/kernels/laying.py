"""Lay rows of ids and values out in the tokens: copied, cut or thinned, or spread over a list."""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from numba import njit

from cellweave.kernels.counter_random import uniform

__all__ = ["lay_rows", "spread_rows"]


@njit(cache=True, nogil=True)
def lay_rows(  # type: ignore[no-untyped-def]
    ids, values, lengths, limits, keys, starts, out_ids, out_values
):
    """Copy ``limits[i]`` of ``lengths[i]`` entries of each row to ``starts[i]``.

    The first ones; or, where ``keys`` (one a row) are given, some at random, order kept.
    """
    first = 0
    for i in range(len(lengths)):
        to = starts[i]
        if len(keys) == 0 or lengths[i] == limits[i]:
            for k in range(limits[i]):
                out_ids[to + k] = ids[first + k]
                out_values[to + k] = values[first + k]
        else:
            _thinned(ids, values, first, lengths[i], limits[i], keys[i], to, out_ids, out_values)
        first += lengths[i]


@njit(cache=True, nogil=True)
def _thinned(ids, values, first, n, wanted, key, to, out_ids, out_values):  # type: ignore[no-untyped-def]
    """Copy ``wanted`` of ``n`` entries, each set of them equally likely, order kept."""
    chosen = 0
    for k in range(n):
        if chosen == wanted:
            break
        # Written always, kept when chosen: chance leaves no branch to guess.
        out_ids[to + chosen] = ids[first + k]
        out_values[to + chosen] = values[first + k]
        chosen += uniform(key, k) * (n - k) < wanted - chosen


@njit(cache=True, nogil=True)
def spread_rows(lengths, places, values, starts, size, out_values):  # type: ignore[no-untyped-def]
    """Write each row's values at their places in a list of ``size``, zeros at all others."""
    first = 0
    for i in range(len(starts)):
        # Cleared row by row: a row that was just written to is near.
        here = out_values[starts[i] : starts[i] + size]
        here[:] = 0
        for k in range(first, first + lengths[i]):
            here[places[k]] = values[k]
        first += lengths[i]
