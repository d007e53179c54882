"""Bins of expression within each cell: quantile, base-two logarithmic and uniform.

Quantile bins follow ``numpy.quantile(v, linspace(0, 1, n_bins - 1))`` over a cell's non-zero
values (linear interpolation, upper half computed from the right, in float64 from float32 values),
then two-sided digitising: a value that several edges equal falls into any of their bins.
The distinct values of a cell and how often each occurs give every order statistic, and one bin a
distinct value, looked up, gives every entry's.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.kernels.counter_random import short_mix
from cellweave.kernels.levels import SLOTS, TABLES, levels_of, sorted_levels
from cellweave.kernels.quantiles import choose, one_of
from cellweave.kernels.ragged import kept_entries, largest_count, write_ids

__all__ = ["log2_bins", "quantile_bins", "uniform_bins"]

_LARGEST_COUNT = 4096  # counts below have a bin in a table of the cell


def quantile_bins(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, tokens: np.ndarray,
    totals: np.ndarray, target: float, use_log: bool, n_bins: int, ties: int,
    keys: np.ndarray, starts: np.ndarray, out_ids: np.ndarray, out_bins: np.ndarray,
) -> None:  # fmt: skip
    """Write id and bin (1 … ``n_bins - 1``) of every kept entry.

    Parameters
    ----------
    indptr, indices, data, tokens
        CSR rows (float32) and the id of each column, ``-1`` for left out.
    totals, target, use_log
        Values are ``c · target / total`` (``target = 0``: ``c``), then ``log1p`` if asked.
    n_bins
        One more than the bins of values above zero.
    ties
        0: any of the bins whose edges a value equals, at random; 1: the lowest; 2: the highest.
    keys
        Random key of each row; the draw of an entry depends on the key and its id.
    starts
        Where each row's tokens start in the output.
    out_ids, out_bins
        Written; as long as there are kept entries.
    """
    # Ids that follow each other need no look-up: the usual case after a fit on the same data.
    run = len(tokens) > 0 and tokens[0] >= 0 and bool(np.all(np.diff(tokens) == 1))
    _quantile_bins(
        indptr, indices, data, tokens, run, totals, float(target), bool(use_log), n_bins - 1,
        ties, keys, np.append(starts, len(out_ids)), out_ids, out_bins,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _quantile_bins(  # type: ignore[no-untyped-def]
    indptr, indices, data, tokens, run, totals, target, use_log, n_edges, ties, keys, starts,
    out_ids, out_bins,
):  # fmt: skip
    places = np.empty(n_edges, dtype=np.float64)
    longest = 0
    for i in range(len(keys)):
        longest = max(longest, starts[i + 1] - starts[i])
    values, codes = np.empty(longest, dtype=np.float32), np.empty(longest, dtype=np.uint16)
    words = np.empty(longest, dtype=np.uint32)
    tables = np.zeros((SLOTS, TABLES), dtype=np.uint32)
    held, choices = np.zeros(SLOTS, dtype=np.uint32), np.empty(SLOTS, dtype=np.uint32)
    level, step = np.empty(SLOTS, dtype=np.float32), np.empty(SLOTS, dtype=np.uint32)
    ends = np.empty(SLOTS, dtype=np.uint32)
    below, upto = np.empty(SLOTS, dtype=np.int64), np.empty(SLOTS, dtype=np.int64)
    for i in range(len(keys)):
        row, n = slice(indptr[i], indptr[i + 1]), starts[i + 1] - starts[i]
        ids, bins = out_ids[starts[i] : starts[i + 1]], out_bins[starts[i] : starts[i + 1]]
        kept = _kept(indices[row], data[row], tokens, run, ids, values)
        if n == 0:
            continue
        n_levels = levels_of(kept, codes[:n], tables, held, level, step, ends)
        if n_levels < 0:
            _choose_by_sorting(kept, totals[i], target, use_log, places, ties, words)
        else:
            found = level[:n_levels]
            _scale(found, totals[i], target, use_log)
            choose(found, step, ends[:n_levels], places, ties, below, upto, choices)
            for k in range(n):
                words[k] = choices[codes[k]]
        _draw(words[:n], ids, keys[i], bins)


@njit(cache=True, nogil=True)
def _kept(columns, row, tokens, run, ids, values):  # type: ignore[no-untyped-def]
    """Write ids of the kept entries, and give their raw values."""
    if len(ids) < len(columns):
        return values[: kept_entries(columns, row, tokens, ids, values)]
    write_ids(columns, tokens, run, ids)
    return row


@njit(cache=True, nogil=True)
def _choose_by_sorting(kept, total, target, use_log, places, ties, words):  # type: ignore[no-untyped-def]
    """Write the choice of each entry of a cell of many distinct values."""
    level, place = np.empty(len(kept), dtype=np.float32), np.empty(len(kept), dtype=np.uint32)
    ends = np.empty(len(kept), dtype=np.uint32)
    n = sorted_levels(kept, level, place, ends)
    _scale(level[:n], total, target, use_log)
    step, choices = np.arange(n).astype(np.uint32), np.empty(n, dtype=np.uint32)
    below, upto = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    choose(level[:n], step, ends[:n], places, ties, below, upto, choices)
    start = np.uint32(0)
    for d in range(n):
        for k in range(start, ends[d]):
            words[place[k]] = choices[d]
        start = ends[d]


@njit(cache=True, nogil=True)
def _scale(level, total, target, use_log):  # type: ignore[no-untyped-def]
    for d in range(len(level)):
        level[d] = _transformed(level[d], total, target, use_log)


@njit(cache=True, nogil=True, inline="always")
def _transformed(count, total, target, use_log):  # type: ignore[no-untyped-def]
    value = np.float32(count)
    if target > 0:
        value = np.float32(value * np.float32(target / total))
    if use_log:
        value = np.float32(np.log1p(value))
    return value


@njit(cache=True, nogil=True)
def _draw(words, ids, key, bins):  # type: ignore[no-untyped-def]
    """Draw one bin of each choice; apart from looking it up, because this fills vector lanes."""
    for k in range(len(words)):
        bins[k] = one_of(words[k], short_mix(key, ids[k]))


def log2_bins(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, tokens: np.ndarray,
    totals: np.ndarray, target: float, cap: int, starts: np.ndarray,
    out_ids: np.ndarray, out_bins: np.ndarray, *, all_kept: bool = False,
) -> None:  # fmt: skip
    """Write id and ``floor(log2(1 + c · target / total))``, at most ``cap``, of kept entries.

    ``all_kept`` says that no zero is stored and every column has an id.
    """
    run = all_kept and len(tokens) > 0 and bool(np.all(np.diff(tokens) == 1))
    _log2_bins(
        indptr, indices, data, tokens, bool(all_kept), run, totals, float(target), cap, starts,
        out_ids, out_bins,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _log2_bins(  # type: ignore[no-untyped-def]
    indptr, indices, data, tokens, all_kept, run, totals, target, cap, starts, out_ids, out_bins
):
    table = np.empty(_LARGEST_COUNT, dtype=np.float32)
    for i in range(len(starts)):
        row, scale = slice(indptr[i], indptr[i + 1]), 1.0
        if target > 0 and totals[i] > 0:
            scale = target / totals[i]
        ids, bins = out_ids[starts[i] :], out_bins[starts[i] :]
        if all_kept:
            counts = data[row]
            write_ids(indices[row], tokens, run, ids)
        else:
            counts = bins[: kept_entries(indices[row], data[row], tokens, ids, bins)]
        largest = largest_count(counts, _LARGEST_COUNT)
        if largest < 0 or largest > 4 * len(counts):
            for k in range(len(counts)):
                bins[k] = _log2_bin(counts[k], scale, cap)
            continue
        _log2_table(largest, scale, cap, table)
        for k in range(len(counts)):
            bins[k] = table[np.uint32(np.int32(counts[k]))]


@njit(cache=True, nogil=True)
def _log2_table(largest, scale, cap, table):  # type: ignore[no-untyped-def]
    """Write the bin of every count: they ascend, so the last bin is the same from its edge on."""
    count = 0
    while count <= largest:
        table[count] = _log2_bin(np.float32(count), scale, cap)
        count += 1
        if table[count - 1] == cap:
            break
    table[count : largest + 1] = cap


@njit(cache=True, nogil=True)
def _small_count(value):  # type: ignore[no-untyped-def]
    """Give a small whole number as an index, -1 for others."""
    count = np.int32(min(value, np.float32(_LARGEST_COUNT)))
    return count if count < _LARGEST_COUNT and np.float32(count) == value else np.int32(-1)


@njit(cache=True, nogil=True)
def _log2_bin(value, scale, cap):  # type: ignore[no-untyped-def]
    # Powers of two are compared, not logarithms taken: exact, and faster.
    scaled, bin_, edge = 1.0 + value * scale, 0, 2.0
    while bin_ < cap and scaled >= edge:
        bin_ += 1
        edge *= 2.0
    return bin_


@njit(cache=True, nogil=True)
def uniform_bins(  # type: ignore[no-untyped-def]  # noqa: ANN201
    indptr, indices, data, tokens, totals, target, use_log, n_bins,
    starts, out_ids, out_bins
):  # fmt: skip
    """Write id and bin 1 … ``n_bins`` of equal width between 0 and the largest kept value."""
    known = np.full(_LARGEST_COUNT, -1, dtype=np.int64)
    table = np.empty(_LARGEST_COUNT, dtype=np.float32)
    for i in range(len(starts)):
        at, largest = starts[i], np.float32(0)
        for k in range(indptr[i], indptr[i + 1]):
            if tokens[indices[k]] >= 0:
                largest = max(largest, data[k])
        # Scaling and logarithm keep the order: the largest count has the largest value.
        top = np.float64(_transformed(largest, totals[i], target, use_log))
        for k in range(indptr[i], indptr[i + 1]):
            token = tokens[indices[k]]
            if token < 0 or data[k] == 0:
                continue
            out_ids[at] = token
            count = _small_count(data[k])
            if count < 0:
                value = _transformed(data[k], totals[i], target, use_log)
                out_bins[at] = _uniform_bin(value, top, n_bins)
            else:
                if known[count] != i:
                    value = _transformed(data[k], totals[i], target, use_log)
                    known[count], table[count] = i, _uniform_bin(value, top, n_bins)
                out_bins[at] = table[count]
            at += 1


@njit(cache=True, nogil=True)
def _uniform_bin(value, top, n_bins):  # type: ignore[no-untyped-def]
    width = top / n_bins
    bin_ = np.int64(np.ceil(np.float64(value) / width))
    # An edge belongs to the bin below it, as edges themselves round.
    if bin_ > 1 and np.float64(value) <= (bin_ - 1) * width:
        bin_ -= 1
    return min(max(bin_, 1), n_bins)
