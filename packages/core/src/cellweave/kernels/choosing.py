"""Choose some of a cell's features at random: thinned in order, or drawn by weight."""

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.kernels.counter_random import below, uniform

__all__ = ["sample_genome", "shuffle_rows", "thin_rows"]

_GUIDES = 1024  # a power of two, so that its parts of the unit interval are exact
_WEIGHTS = 256  # weights of smaller whole counts are looked up


@njit(cache=True, nogil=True)
def thin_rows(lengths, limits, keys):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return the positions kept, row after row: ``limits[i]`` of ``lengths[i]``, order kept."""
    kept = np.empty(limits.sum(), dtype=np.int64)
    at, start = 0, 0
    for i in range(len(lengths)):
        chosen = 0
        for k in range(lengths[i]):
            if chosen == limits[i]:
                break
            if uniform(keys[i], k) * (lengths[i] - k) < limits[i] - chosen:
                kept[at] = start + k
                at += 1
                chosen += 1
        start += lengths[i]
    return kept


@njit(cache=True, nogil=True)
def shuffle_rows(indptr, indices, data, keys):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Put the entries of each row into a random order, in place."""
    for i in range(len(indptr) - 1):
        first = indptr[i]
        for k in range(indptr[i + 1] - first - 1, 0, -1):
            a, b = first + k, first + below(keys[i], k, k + 1)
            indices[a], indices[b] = indices[b], indices[a]
            data[a], data[b] = data[b], data[a]


@njit(cache=True, nogil=True)
def sample_genome(  # type: ignore[no-untyped-def]  # noqa: ANN201
    indptr, indices, data, tokens, chromosome_of, n_chromosomes, n_draws,  # noqa: ANN001
    order_keys, draw_keys, chromosome_tokens, close_token, starts, limits, out_ids,  # noqa: ANN001
):  # fmt: skip
    """Draw genes by log1p(count), with replacement, and write them chromosome by chromosome.

    Rows must ascend along the genome. Row ``i`` is written from ``starts[i]``, ``limits[i]`` tokens
    at most; how many it has is returned. Chromosomes come in a random order; each is opened by its
    token and closed by ``close_token``.
    """
    widest = 0
    for i in range(len(indptr) - 1):
        widest = max(widest, indptr[i + 1] - indptr[i])
    cumulative, times = np.empty(widest, dtype=np.float64), np.empty(widest, dtype=np.int32)
    guide, weights = np.empty(_GUIDES, dtype=np.int32), np.log1p(np.arange(_WEIGHTS))
    begin, drawn = np.empty(n_chromosomes, dtype=np.int64), np.empty(n_chromosomes, dtype=np.int64)
    order = np.empty(n_chromosomes, dtype=np.int64)
    sentence = np.empty(n_draws + 2 * n_chromosomes, dtype=np.int32)
    written = np.zeros(len(indptr) - 1, dtype=np.int64)
    for i in range(len(indptr) - 1):
        columns, values = indices[indptr[i] : indptr[i + 1]], data[indptr[i] : indptr[i + 1]]
        total = _add_up(columns, values, tokens, weights, cumulative)
        if total == 0:
            continue
        _draw_genes(cumulative[: len(columns)], guide, draw_keys[i], n_draws, times)
        _by_chromosome(columns, chromosome_of, times, begin, drawn)
        _shuffled(order_keys[i], order)
        _write_genome(
            order, begin, drawn, times, columns, tokens, chromosome_tokens, close_token, sentence
        )
        written[i] = min(n_draws + 2 * np.sum(drawn > 0), limits[i])
        out_ids[starts[i] : starts[i] + written[i]] = sentence[: written[i]]
    return written


@njit(cache=True, nogil=True)
def _add_up(columns, values, tokens, weights, cumulative):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Write running sums of the weights, and give their total."""
    total = 0.0
    for k in range(len(columns)):
        value = values[k]
        if tokens[columns[k]] >= 0 and value > 0:
            if value < _WEIGHTS and value == np.floor(value):
                total += weights[np.int64(value)]
            else:
                total += np.log1p(np.float64(value))
        cumulative[k] = total
    return total


@njit(cache=True, nogil=True)
def _draw_genes(cumulative, guide, key, n_draws, times):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Count how often each entry is drawn: the first whose running sum is above a random number.

    ``guide`` says where the search starts for each of its parts of the unit interval.
    """
    times[: len(cumulative)] = 0
    total, k, last = cumulative[-1], 0, len(cumulative) - 1
    for part in range(_GUIDES):
        while cumulative[k] <= part / _GUIDES * total:
            k += 1
        guide[part] = k
    for draw in range(n_draws):
        chance = uniform(key, draw)
        k = guide[np.int64(chance * _GUIDES)]
        while cumulative[k] <= chance * total and k < last:
            k += 1
        times[k] += 1


@njit(cache=True, nogil=True)
def _by_chromosome(columns, chromosome_of, times, begin, drawn):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Say where each chromosome's entries begin and how many draws fell on it."""
    begin[:] = -1
    drawn[:] = 0
    for k in range(len(columns)):
        chromosome = chromosome_of[columns[k]]
        if chromosome >= 0:
            if begin[chromosome] < 0:
                begin[chromosome] = k
            drawn[chromosome] += times[k]


@njit(cache=True, nogil=True)
def _shuffled(key, order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for c in range(len(order)):
        order[c] = c
    for c in range(len(order) - 1, 0, -1):
        other = below(key, c, c + 1)
        order[c], order[other] = order[other], order[c]


@njit(cache=True, nogil=True)
def _write_genome(  # type: ignore[no-untyped-def]  # noqa: ANN202
    order, begin, drawn, times, columns, tokens, chromosome_tokens, close_token, out,  # noqa: ANN001
):  # fmt: skip
    at = 0
    for place in range(len(order)):
        c = order[place]
        if drawn[c] == 0:
            continue
        out[at] = chromosome_tokens[c]
        at += 1
        k, left = begin[c], drawn[c]
        while left > 0:
            for _ in range(times[k]):
                out[at] = tokens[columns[k]]
                at += 1
            left -= times[k]
            k += 1
        out[at] = close_token
        at += 1
