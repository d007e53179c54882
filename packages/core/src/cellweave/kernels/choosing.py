"""Choose some of a cell's features at random: thinned in order, or drawn by weight."""

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.kernels.counter_random import below, uniform

__all__ = ["sample_genome", "shuffle_rows", "thin_rows"]


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
def sample_genome(  # type: ignore[no-untyped-def]  # noqa: ANN201, C901, PLR0912, PLR0915
    indptr, indices, data, tokens, chromosome_of, n_chromosomes, n_draws,  # noqa: ANN001
    order_keys, draw_keys, chromosome_tokens, close_token, offsets, out_ids,  # noqa: ANN001
):  # fmt: skip
    """Draw genes by log1p(count), with replacement, and write them chromosome by chromosome.

    Rows must ascend along the genome. With ``out_ids`` empty only lengths are found, and written
    to ``offsets[i + 1]``; else ``offsets`` say where each row starts. Chromosomes come in a random
    order; each is opened by its token and closed by ``close_token``.
    """
    widest = 0
    for i in range(len(indptr) - 1):
        widest = max(widest, indptr[i + 1] - indptr[i])
    cumulative = np.empty(widest, dtype=np.float64)
    times = np.empty(widest, dtype=np.int64)
    begin = np.empty(n_chromosomes + 1, dtype=np.int64)
    order = np.empty(n_chromosomes, dtype=np.int64)
    drawn = np.empty(n_chromosomes, dtype=np.int64)
    writing = len(out_ids) > 0
    for i in range(len(indptr) - 1):
        first, n = indptr[i], indptr[i + 1] - indptr[i]
        total = 0.0
        for k in range(n):
            if tokens[indices[first + k]] >= 0 and data[first + k] > 0:
                total += np.log1p(data[first + k])
            cumulative[k] = total
        if total == 0.0:
            if not writing:
                offsets[i + 1] = 0
            continue
        times[:n] = 0
        for draw in range(n_draws):
            wanted = uniform(draw_keys[i], draw) * total
            times[np.searchsorted(cumulative[:n], wanted, side="right")] += 1
        drawn[:] = 0
        for c in range(n_chromosomes):
            begin[c] = -1
        for k in range(n):
            chromosome = chromosome_of[indices[first + k]]
            if chromosome >= 0:
                if begin[chromosome] < 0:
                    begin[chromosome] = k
                drawn[chromosome] += times[k]
        if not writing:
            length = n_draws
            for c in range(n_chromosomes):
                length += 2 * (drawn[c] > 0)
            offsets[i + 1] = length
            continue
        for c in range(n_chromosomes):
            order[c] = c
        for c in range(n_chromosomes - 1, 0, -1):
            other = below(order_keys[i], c, c + 1)
            order[c], order[other] = order[other], order[c]
        at = offsets[i]
        for place in range(n_chromosomes):
            c = order[place]
            if drawn[c] == 0:
                continue
            out_ids[at] = chromosome_tokens[c]
            at += 1
            k, left = begin[c], drawn[c]
            while left > 0:
                for _ in range(times[k]):
                    out_ids[at] = tokens[indices[first + k]]
                    at += 1
                left -= times[k]
                k += 1
            out_ids[at] = close_token
            at += 1
