"""Passes over the rows of a CSR matrix: count, sum and re-order what a vocabulary knows.

``tokens`` maps a column to its id, ``-1`` for columns that are left out. Stored zeros count as
absent everywhere.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "close_gaps",
    "count_kept",
    "filter_rows",
    "kept_entries",
    "largest_count",
    "look_over_rows",
    "realign_rows",
    "row_sums",
    "rows_ascend",
    "sum_kept",
    "survey_rows",
    "write_ids",
    "write_kept",
]

_DIGITS = 11
_RADIX = 1 << _DIGITS


@njit(cache=True, nogil=True)
def count_kept(indptr, indices, data, tokens):  # type: ignore[no-untyped-def]
    """Count the non-zero entries of each row whose column has an id."""
    counts = np.empty(len(indptr) - 1, dtype=np.int64)
    for i in range(len(counts)):
        n = 0
        for k in range(indptr[i], indptr[i + 1]):
            n += tokens[indices[k]] >= 0 and data[k] != 0
        counts[i] = n
    return counts


@njit(cache=True, nogil=True)
def row_sums(indptr, data):  # type: ignore[no-untyped-def]
    """Sum each row in float64."""
    sums = np.empty(len(indptr) - 1, dtype=np.float64)
    for i in range(len(sums)):
        sums[i] = _sum(data[indptr[i] : indptr[i + 1]])
    return sums


@njit(cache=True, nogil=True)
def rows_ascend(indptr, indices):  # type: ignore[no-untyped-def]
    """Tell whether the columns of every row ascend strictly."""
    for i in range(len(indptr) - 1):  # noqa: SIM110 - numba compiles the loop
        if not _ascends(indices[indptr[i] : indptr[i + 1]]):
            return False
    return True


@njit(cache=True, nogil=True)
def survey_rows(indptr, indices, data):  # type: ignore[no-untyped-def]
    """Give the sum of each row, whether all ascend, and the least and largest bit pattern.

    One pass: each row is looked at three times while it is near. Bit patterns of float32 that
    have no sign ascend as the values do.
    """
    sums, ascend = np.empty(len(indptr) - 1, dtype=np.float64), True
    least, largest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(len(sums)):
        row = slice(indptr[i], indptr[i + 1])
        values = data[row]
        sums[i] = _sum(values)
        below, above = _range_of_bits(values.view(np.uint32))
        least, largest = min(least, below), max(largest, above)
        ascend = ascend and _ascends(indices[row])
    return sums, ascend, least, largest


# Reassociated sums use all vector lanes; the order is fixed by the machine, so bytes repeat.
@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def _sum(values):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(len(values)):
        total += values[k]
    return total


@njit(cache=True, nogil=True)
def _range_of_bits(bits):  # type: ignore[no-untyped-def]
    least, largest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for k in range(len(bits)):
        least, largest = min(least, bits[k]), max(largest, bits[k])
    return least, largest


@njit(cache=True, nogil=True)
def _ascends(columns):  # type: ignore[no-untyped-def]
    following, falls = columns[1:], False
    for k in range(len(following)):
        falls |= following[k] <= columns[k]
    return not falls


@njit(cache=True, nogil=True)
def close_gaps(values, old_starts, new_starts, lengths):  # type: ignore[no-untyped-def]
    """Move stretches towards the front, in place; none may start after its old start."""
    for i in range(len(lengths)):
        old, new = old_starts[i], new_starts[i]
        if old != new:
            for k in range(lengths[i]):
                values[new + k] = values[old + k]


@njit(cache=True, nogil=True)
def sum_kept(indptr, indices, data, tokens):  # type: ignore[no-untyped-def]
    """Sum the entries of each row whose column has an id, in float64."""
    sums = np.empty(len(indptr) - 1, dtype=np.float64)
    for i in range(len(sums)):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            if tokens[indices[k]] >= 0:
                total += data[k]
        sums[i] = total
    return sums


@njit(cache=True, nogil=True)
def write_kept(indptr, indices, data, tokens, starts, limits, out_ids, out_values):  # type: ignore[no-untyped-def]
    """Write ids and raw values of the first ``limits`` kept entries of each row."""
    for i in range(len(starts)):
        at, end = starts[i], starts[i] + limits[i]
        for k in range(indptr[i], indptr[i + 1]):
            if at == end:
                break
            token = tokens[indices[k]]
            if token >= 0 and data[k] != 0:
                out_ids[at] = token
                out_values[at] = data[k]
                at += 1


@njit(cache=True, nogil=True)
def write_ids(columns, tokens, run, ids):  # type: ignore[no-untyped-def]
    """Write the id of every column; where ids follow each other (``run``) none is looked up."""
    if run:
        first = np.uint32(tokens[0])
        for k in range(len(columns)):
            ids[k] = columns[k] + first
    else:
        for k in range(len(columns)):
            ids[k] = tokens[columns[k]]


@njit(cache=True, nogil=True)
def kept_entries(columns, row, tokens, ids, values):  # type: ignore[no-untyped-def]
    """Write ids and raw values of the kept entries, and count them."""
    at = 0
    for k in range(len(columns)):
        token = tokens[columns[k]]
        if token >= 0 and row[k] != 0:
            ids[at], values[at] = token, row[k]
            at += 1
    return at


@njit(cache=True, nogil=True)
def largest_count(values, limit):  # type: ignore[no-untyped-def]
    """Give the largest of whole numbers below ``limit``, -1 where one is none."""
    wrong, largest = False, np.int32(0)
    for k in range(len(values)):
        count = np.int32(min(values[k], np.float32(limit)))
        wrong |= np.float32(count) != values[k]
        largest = max(largest, count)
    return np.int32(-1) if wrong or largest >= limit else largest


@njit(cache=True, nogil=True)
def look_over_rows(indptr, indices, data, n_columns):  # type: ignore[no-untyped-def]
    """Tell whether all columns lie in range, all values are sound, and all rows orderly.

    Sound are float32 that are finite and have no sign; orderly is what ascends and stores no
    zeros. Bit patterns of sound values ascend as they do, so whole numbers are compared.
    """
    furthest, largest, least = np.uint32(0), np.uint32(0), np.uint32(0xFFFFFFFF)
    bits = data.view(np.uint32)
    for k in range(len(bits)):
        furthest = max(furthest, indices[k])
        largest = max(largest, bits[k])
        least = min(least, bits[k])
    orderly = least > 0 and rows_ascend(indptr, indices)
    return len(indices) == 0 or furthest < n_columns, largest < np.uint32(0x7F800000), orderly


@njit(cache=True, nogil=True)
def filter_rows(indptr, indices, data, places):  # type: ignore[no-untyped-def]
    """Rename columns to ascending ``places`` and drop those at ``-1``, in place; give lengths."""
    counts = np.empty(len(indptr) - 1, dtype=np.int64)
    at = 0
    for i in range(len(counts)):
        before = at
        for k in range(indptr[i], indptr[i + 1]):
            place = places[indices[k]]
            indices[at], data[at] = max(place, 0), data[k]
            at += place >= 0
        counts[i] = at - before
    return counts


@njit(cache=True, nogil=True)
def realign_rows(indptr, indices, data, places, offsets, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Rewrite rows with columns renamed to ``places`` (``-1`` dropped), in ascending order.

    ``offsets`` are the row starts of the result. Two radix passes sort each row, so places must
    be below 2**22. Equal places of one row stay neighbours; they are not summed.
    """
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    keys, values = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=data.dtype)
    half_keys, half_values = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=data.dtype)
    low = np.zeros(_RADIX, dtype=np.int64)
    high = np.zeros(_RADIX, dtype=np.int64)
    for i in range(len(offsets) - 1):
        row, out = slice(indptr[i], indptr[i + 1]), slice(offsets[i], offsets[i + 1])
        n = _renamed(indices[row], data[row], places, keys, values, low, high)
        _starts_of(low)
        _starts_of(high)
        _scatter(keys[:n], values, 0, low, half_keys, half_values)
        _scatter(half_keys[:n], half_values, _DIGITS, high, out_indices[out], out_data[out])
        low[:] = 0
        high[:] = 0


@njit(cache=True, nogil=True)
def _renamed(columns, row, places, keys, values, low, high):  # type: ignore[no-untyped-def]
    """Write the kept entries and count both digits of their places."""
    n = 0
    for k in range(len(columns)):
        place = places[columns[k]]
        if place >= 0 and row[k] != 0:
            keys[n], values[n] = place, row[k]
            low[place & (_RADIX - 1)] += 1
            high[place >> _DIGITS] += 1
            n += 1
    return n


@njit(cache=True, nogil=True)
def _starts_of(counts):  # type: ignore[no-untyped-def]
    before = 0
    for d in range(len(counts)):
        count = counts[d]
        counts[d] = before
        before += count


@njit(cache=True, nogil=True)
def _scatter(keys, values, shift, starts, out_keys, out_values):  # type: ignore[no-untyped-def]
    for k in range(len(keys)):
        digit = (keys[k] >> shift) & (_RADIX - 1)
        at = starts[digit]
        out_keys[at], out_values[at] = keys[k], values[k]
        starts[digit] = at + 1
