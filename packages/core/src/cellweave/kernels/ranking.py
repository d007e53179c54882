"""Order the features of each cell by ``value / factor``, largest first.

Values of one cell are sorted by a range-reduced radix sort of approximate float32 keys (two
passes of ten bits); an insertion pass then settles neighbours whose keys are closer than the
rounding of the keys, by the exact float64 value ``c / total · target / factor``. Equal values
keep the order of the row, which is the order of the vocabulary: the result equals that of a
stable sort of the exact values.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.kernels.counter_random import uniform

__all__ = ["count_ranked", "rank_rows"]

_DIGITS = 10
_RADIX = 1 << _DIGITS
_MASK = _RADIX - 1
_CLOSE = 16  # units in the last place of a key: three roundings, with room


@njit(cache=True, nogil=True, inline="always")
def _exact(count, total, target, factor, single):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if target <= 0:
        return np.float64(count) / factor
    if single:
        part = np.float32(np.float32(count) / np.float32(total))
        return np.float64(np.float32(part * np.float32(target))) / factor
    return np.float64(count) / total * target / factor


@njit(cache=True, nogil=True)
def count_ranked(indptr, indices, data, tokens, groups):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Count the non-zero entries of each row whose column has an id in the row's group."""
    counts = np.empty(len(indptr) - 1, dtype=np.int64)
    known = np.empty(tokens.shape, dtype=np.uint8)  # small enough to stay in the first cache
    for g in range(tokens.shape[0]):
        for j in range(tokens.shape[1]):
            known[g, j] = tokens[g, j] >= 0
    for i in range(len(counts)):
        n, mine = 0, known[groups[i]]
        for k in range(indptr[i], indptr[i + 1]):
            n += mine[indices[k]] & np.uint8(data[k] != 0)
        counts[i] = n
    return counts


@njit(cache=True, nogil=True)
def rank_rows(  # type: ignore[no-untyped-def]  # noqa: ANN201, C901, PLR0912, PLR0915
    indptr, indices, data, tokens, factors, groups, totals, target, single,  # noqa: ANN001
    starts, limits, keys, out_ids, out_values  # noqa: ANN001
):  # fmt: skip
    """Write the ids (and values) of each row in descending order of value over factor.

    Parameters
    ----------
    indptr, indices, data
        CSR rows; float32 data.
    tokens, factors
        ``(n_groups, n_columns)``: id (``-1``: left out) and positive float64 divisor.
    groups
        Group of each row (a technology), int64.
    totals, target, single
        Total of each row and what it is scaled to; ``target = 0`` leaves values unscaled.
        ``single`` rounds the scaled value to float32 after each step, as float32 matrices do.
    starts, limits
        Where each row's tokens start in the output, and how many there are at most.
    keys
        Random key of each row: a row longer than its limit is thinned at random, order kept.
        An empty array cuts it instead.
    out_ids, out_values
        Written; ``out_values`` may be empty. Values are ``c / total · target``, without factor.
    """
    widest = 0
    for i in range(len(starts)):
        widest = max(widest, indptr[i + 1] - indptr[i])
    inverses = np.zeros(factors.shape, dtype=np.float32)
    for g in range(factors.shape[0]):
        for j in range(factors.shape[1]):
            if tokens[g, j] >= 0:
                inverses[g, j] = 1.0 / factors[g, j]
    # One word an entry: its key in the upper half, its place in the row in the lower.
    items, sorted_items = np.empty(widest, dtype=np.uint64), np.empty(widest, dtype=np.uint64)
    scratch = np.empty(widest, dtype=np.float32)
    scratch_bits = scratch.view(np.uint32)
    low, high = np.empty(_RADIX, dtype=np.uint32), np.empty(_RADIX, dtype=np.uint32)
    half, mask, digits = np.uint64(32), np.uint64(_MASK), np.uint64(_DIGITS)
    close = np.uint64(_CLOSE)
    keep_values = len(out_values) > 0
    for i in range(len(starts)):
        first, length = indptr[i], indptr[i + 1] - indptr[i]
        inverse, divisor = inverses[groups[i]], factors[groups[i]]
        columns, counts = indices[first : first + length], data[first : first + length]
        smallest, largest = np.uint32(0xFFFFFFFF), np.uint32(0)
        for k in range(length):
            scratch[k] = counts[k] * inverse[columns[k]]
        for k in range(length):
            key = scratch_bits[k]
            largest = max(largest, key)
            # A zero (left out, or a stored zero) wraps to the largest word: never the smallest.
            smallest = min(smallest, key - np.uint32(1))
        if largest == 0:
            continue
        spread = np.uint64(largest - smallest)
        shift = np.uint64(0)
        while spread >> shift >= np.uint64(_RADIX * _RADIX):
            shift += np.uint64(1)
        low[:] = 0
        high[:] = 0
        n = 0
        for k in range(length):
            key = scratch_bits[k]
            from_top = np.uint64(largest - key)
            items[n] = (from_top << half) | np.uint64(k)
            if key > 0:
                digit = from_top >> shift
                low[digit & mask] += np.uint32(1)
                high[digit >> digits] += np.uint32(1)
                n += 1
        before_low, before_high = np.uint32(0), np.uint32(0)
        for d in range(_RADIX):
            count = low[d]
            low[d] = before_low
            before_low += count
            count = high[d]
            high[d] = before_high
            before_high += count
        for k in range(n):
            item = items[k]
            digit = ((item >> half) >> shift) & mask
            at = low[digit]
            low[digit] = at + np.uint32(1)
            sorted_items[at] = item
        for k in range(n):
            item = sorted_items[k]
            digit = ((item >> half) >> shift) >> digits
            at = high[digit]
            high[digit] = at + np.uint32(1)
            items[at] = item
        total = totals[i]
        for k in range(1, n):
            item = items[k]
            key = item >> half
            j = k - 1
            while j >= 0:
                other = items[j] >> half
                if other + close < key:
                    break
                if other <= key + close:
                    mine, its = np.uint32(item), np.uint32(items[j])
                    if not (
                        _exact(counts[mine], total, target, divisor[columns[mine]], single)
                        > _exact(counts[its], total, target, divisor[columns[its]], single)
                    ):
                        break
                items[j + 1] = items[j]
                j -= 1
            items[j + 1] = item
        _emit(
            items, n, columns, counts, tokens[groups[i]], total, target, single, starts[i],
            limits[i], keys, i, keep_values, out_ids, out_values,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _emit(  # type: ignore[no-untyped-def]  # noqa: ANN202
    items, n, columns, counts, tokens, total, target, single, start, wanted, keys, row,  # noqa: ANN001
    keep_values, out_ids, out_values,  # noqa: ANN001
):  # fmt: skip
    """Write the sorted entries of one row, cut or thinned to ``wanted``."""
    if len(keys) == 0 or n <= wanted:
        for k in range(min(n, wanted)):
            source = np.uint32(items[k])
            out_ids[start + k] = tokens[columns[source]]
            if keep_values:
                out_values[start + k] = _exact(counts[source], total, target, 1.0, single)
        return
    at = 0
    for k in range(n):
        # Selection sampling: each set of `wanted` entries is equally likely, order kept.
        if uniform(keys[row], k) * (n - k) >= wanted - at:
            continue
        source = np.uint32(items[k])
        out_ids[start + at] = tokens[columns[source]]
        if keep_values:
            out_values[start + at] = _exact(counts[source], total, target, 1.0, single)
        at += 1
