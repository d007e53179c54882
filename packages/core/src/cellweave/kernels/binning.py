"""Bins of expression within each cell: quantile, base-two logarithmic and uniform.

Quantile bins follow ``numpy.quantile(v, linspace(0, 1, n_bins - 1))`` over a cell's non-zero
values (linear interpolation, upper half computed from the right, in float64 from float32 values),
then two-sided digitising: a value that several edges equal falls into any of their bins.
Small whole counts need no sort: their histogram gives every order statistic, and one look-up
table a cell gives every bin.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.kernels.counter_random import uniform

__all__ = ["log2_bins", "quantile_bins", "quantile_edges", "uniform_bins"]

_LARGEST_COUNT = 4096


@njit(cache=True, nogil=True, inline="always")
def _transformed(count, total, target, use_log):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    value = np.float32(count)
    if target > 0:
        value = np.float32(value * np.float32(target / total))
    if use_log:
        value = np.float32(np.log1p(value))
    return value


@njit(cache=True, nogil=True, inline="always")
def _quantile(below, above, weight):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    step = np.float64(np.float32(above - below))
    if weight >= 0.5:
        return np.float64(above) - step * (1.0 - weight)
    return np.float64(below) + step * weight


@njit(cache=True, nogil=True)
def quantile_edges(values, n_edges, edges):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Fill ``edges`` with the quantiles of sorted float32 ``values``."""
    last = len(values) - 1
    for e in range(n_edges):
        at = (e * (1.0 / (n_edges - 1))) * last if n_edges > 1 else 0.0
        if e == n_edges - 1:
            at = np.float64(last)
        low = int(np.floor(at))
        high = min(low + 1, last)
        edges[e] = _quantile(values[low], values[high], at - low)


@njit(cache=True, nogil=True)
def quantile_bins(  # type: ignore[no-untyped-def]  # noqa: ANN201, C901, PLR0912, PLR0915
    indptr, indices, data, tokens, totals, target, use_log,  # noqa: ANN001
    n_bins, ties, keys, starts, out_ids, out_bins  # noqa: ANN001
):  # fmt: skip
    """Write id and bin (1 … ``n_bins - 1``) of every kept entry.

    Parameters
    ----------
    indptr, indices, data, tokens
        CSR rows (float32) and the id of each column, ``-1`` for left out.
    totals, target, use_log
        Values are ``c · target / total`` (``target = 0``: ``c``), then ``log1p`` if asked.
    ties
        0: any of the bins whose edges a value equals, at random; 1: the lowest; 2: the highest.
    keys
        Random key of each row; the draw of an entry depends on the key and its id.
    starts
        Where each row's tokens start in the output.
    """
    n_edges = n_bins - 1
    edges = np.empty(n_edges, dtype=np.float64)
    histogram = np.zeros(_LARGEST_COUNT, dtype=np.int64)
    low_of = np.zeros(_LARGEST_COUNT, dtype=np.int64)
    high_of = np.zeros(_LARGEST_COUNT, dtype=np.int64)
    distinct = np.empty(_LARGEST_COUNT, dtype=np.int64)
    level = np.empty(_LARGEST_COUNT, dtype=np.float32)
    ends = np.empty(_LARGEST_COUNT, dtype=np.int64)
    for i in range(len(starts)):
        first, stop = indptr[i], indptr[i + 1]
        n, largest, whole = 0, np.int64(0), True
        for k in range(first, stop):
            value = data[k]
            if tokens[indices[k]] < 0 or value == 0:
                continue
            n += 1
            if not (0 < value < _LARGEST_COUNT) or value != np.int64(value):
                whole = False
                break
            count = np.int64(value)
            histogram[count] += 1
            largest = max(largest, count)
        if not whole:
            histogram[:] = 0
            _sorted_row(
                indices, data, tokens, totals[i], target, use_log, first, stop,
                edges, ties, keys[i], starts[i], out_ids, out_bins,
            )  # fmt: skip
            continue
        n_distinct, seen = 0, 0
        for step in range(1, largest + 1):
            if histogram[step] > 0:
                seen += histogram[step]
                histogram[step] = 0
                distinct[n_distinct] = step
                level[n_distinct] = _transformed(step, totals[i], target, use_log)
                ends[n_distinct] = seen
                n_distinct += 1
        if n == 0:
            continue
        _edges_of_levels(level, ends, n, edges)
        at_or_below, below = 0, 0
        for d in range(n_distinct):
            while at_or_below < n_edges and edges[at_or_below] <= level[d]:
                at_or_below += 1
            while below < n_edges and edges[below] < level[d]:
                below += 1
            high_of[distinct[d]] = at_or_below
            low_of[distinct[d]] = below
        at = starts[i]
        for k in range(first, stop):
            token = tokens[indices[k]]
            if token < 0 or data[k] == 0:
                continue
            count = np.int64(data[k])
            out_ids[at] = token
            out_bins[at] = _bin(low_of[count], high_of[count], ties, keys[i], token)
            at += 1


@njit(cache=True, nogil=True)
def _edges_of_levels(level, ends, n, edges):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_edges, last, d, d_next = len(edges), n - 1, 0, 0
    for e in range(n_edges):
        at = (e * (1.0 / (n_edges - 1))) * last if n_edges > 1 else 0.0
        if e == n_edges - 1:
            at = np.float64(last)
        low = np.int64(np.floor(at))
        high = min(low + 1, last)
        while ends[d] <= low:
            d += 1
        d_next = max(d, d_next)
        while ends[d_next] <= high:
            d_next += 1
        edges[e] = _quantile(level[d], level[d_next], at - low)


@njit(cache=True, nogil=True, inline="always")
def _bin(low, high, ties, key, token):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if high <= low + 1 or ties == 2:
        return max(high, 1)
    if ties == 1:
        return low + 1
    return low + 1 + np.int64(uniform(key, token) * (high - low))


@njit(cache=True, nogil=True)
def _sorted_row(  # type: ignore[no-untyped-def]  # noqa: ANN202
    indices, data, tokens, total, target, use_log, first, stop,  # noqa: ANN001
    edges, ties, key, start, out_ids, out_bins  # noqa: ANN001
):  # fmt: skip
    """Bin one row whose values are no small whole numbers, by sorting them."""
    values = np.empty(stop - first, dtype=np.float32)
    n = 0
    for k in range(first, stop):
        if tokens[indices[k]] >= 0 and data[k] != 0:
            values[n] = _transformed(data[k], total, target, use_log)
            n += 1
    quantile_edges(np.sort(values[:n]), len(edges), edges)
    at = start
    for k in range(first, stop):
        token = tokens[indices[k]]
        if token < 0 or data[k] == 0:
            continue
        value = np.float64(values[at - start])
        low = np.searchsorted(edges, value, side="left")
        high = np.searchsorted(edges, value, side="right")
        out_ids[at] = token
        out_bins[at] = _bin(low, high, ties, key, token)
        at += 1


@njit(cache=True, nogil=True)
def log2_bins(indptr, indices, data, tokens, totals, target, cap, starts, out_ids, out_bins):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Write id and ``floor(log2(1 + c · target / total))``, at most ``cap``, of kept entries."""
    for i in range(len(starts)):
        at = starts[i]
        scale = target / totals[i] if target > 0 and totals[i] > 0 else 1.0
        for k in range(indptr[i], indptr[i + 1]):
            token = tokens[indices[k]]
            if token >= 0 and data[k] != 0:
                out_ids[at] = token
                # Powers of two are compared, not logarithms taken: exact, and faster.
                value, bin_, edge = 1.0 + data[k] * scale, 0, 2.0
                while bin_ < cap and value >= edge:
                    bin_ += 1
                    edge *= 2.0
                out_bins[at] = bin_
                at += 1


@njit(cache=True, nogil=True)
def uniform_bins(  # type: ignore[no-untyped-def]  # noqa: ANN201
    indptr, indices, data, tokens, totals, target, use_log, n_bins,  # noqa: ANN001
    starts, out_ids, out_bins  # noqa: ANN001
):  # fmt: skip
    """Write id and bin 1 … ``n_bins`` of equal width between 0 and the largest kept value."""
    for i in range(len(starts)):
        at, largest = starts[i], np.float32(0)
        for k in range(indptr[i], indptr[i + 1]):
            if tokens[indices[k]] >= 0:
                largest = max(largest, _transformed(data[k], totals[i], target, use_log))
        width = np.float64(largest) / n_bins
        for k in range(indptr[i], indptr[i + 1]):
            token = tokens[indices[k]]
            if token < 0 or data[k] == 0:
                continue
            value = np.float64(_transformed(data[k], totals[i], target, use_log))
            bin_ = np.int64(np.ceil(value / width))
            # An edge belongs to the bin below it, as edges themselves round.
            if bin_ > 1 and value <= (bin_ - 1) * width:
                bin_ -= 1
            out_ids[at] = token
            out_bins[at] = min(max(bin_, 1), n_bins)
            at += 1
