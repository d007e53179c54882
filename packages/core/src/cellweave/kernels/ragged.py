"""Passes over the rows of a CSR matrix: count, sum and re-order what a vocabulary knows.

``tokens`` maps a column to its id, ``-1`` for columns that are left out. Stored zeros count as
absent everywhere.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "close_gaps",
    "count_kept",
    "realign_rows",
    "row_sums",
    "rows_ascend",
    "sum_kept",
    "write_kept",
]

_DIGITS = 11
_RADIX = 1 << _DIGITS


@njit(cache=True, nogil=True)
def count_kept(indptr, indices, data, tokens):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Count the non-zero entries of each row whose column has an id."""
    counts = np.empty(len(indptr) - 1, dtype=np.int64)
    for i in range(len(counts)):
        n = 0
        for k in range(indptr[i], indptr[i + 1]):
            n += tokens[indices[k]] >= 0 and data[k] != 0
        counts[i] = n
    return counts


# Reassociated sums use all vector lanes; the order is fixed by the machine, so bytes repeat.
@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def row_sums(indptr, data):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Sum each row in float64."""
    sums = np.empty(len(indptr) - 1, dtype=np.float64)
    for i in range(len(sums)):
        row = data[indptr[i] : indptr[i + 1]]
        total = 0.0
        for k in range(len(row)):
            total += row[k]
        sums[i] = total
    return sums


@njit(cache=True, nogil=True)
def rows_ascend(indptr, indices):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Tell whether the columns of every row ascend strictly."""
    for i in range(len(indptr) - 1):
        row = indices[indptr[i] : indptr[i + 1]]
        following, falls = row[1:], False
        for k in range(len(following)):
            falls |= following[k] <= row[k]
        if falls:
            return False
    return True


@njit(cache=True, nogil=True)
def close_gaps(values, old_starts, new_starts, lengths):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Move stretches towards the front, in place; none may start after its old start."""
    for i in range(len(lengths)):
        old, new = old_starts[i], new_starts[i]
        if old != new:
            for k in range(lengths[i]):
                values[new + k] = values[old + k]


@njit(cache=True, nogil=True)
def sum_kept(indptr, indices, data, tokens):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
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
def write_kept(indptr, indices, data, tokens, starts, limits, out_ids, out_values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
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
def realign_rows(indptr, indices, data, places, offsets, out_indices, out_data):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Rewrite rows with columns renamed to ``places`` (``-1`` dropped), in ascending order.

    ``offsets`` are the row starts of the result. Two radix passes sort each row, so places must
    be below 2**22. Equal places of one row stay neighbours; they are not summed.
    """
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    key, value = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=data.dtype)
    key2, value2 = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=data.dtype)
    low = np.empty(_RADIX, dtype=np.int64)
    high = np.empty(_RADIX, dtype=np.int64)
    for i in range(len(offsets) - 1):
        n = 0
        low[:] = 0
        high[:] = 0
        for k in range(indptr[i], indptr[i + 1]):
            place = places[indices[k]]
            if place >= 0 and data[k] != 0:
                key[n] = place
                value[n] = data[k]
                low[place & (_RADIX - 1)] += 1
                high[place >> _DIGITS] += 1
                n += 1
        before_low, before_high = 0, 0
        for d in range(_RADIX):
            count = low[d]
            low[d] = before_low
            before_low += count
            count = high[d]
            high[d] = before_high
            before_high += count
        for k in range(n):
            d = key[k] & (_RADIX - 1)
            key2[low[d]] = key[k]
            value2[low[d]] = value[k]
            low[d] += 1
        start = offsets[i]
        for k in range(n):
            d = key2[k] >> _DIGITS
            out_indices[start + high[d]] = key2[k]
            out_data[start + high[d]] = value2[k]
            high[d] += 1
