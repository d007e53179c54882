"""Values of kept entries, scaled and logged.

Counts of one cell repeat: of a thousand entries few are distinct. Where all are small whole numbers
each of them is logged once a cell, and entries are looked up.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["write_scaled"]

_LEVELS = 512


@njit(cache=True, nogil=True)
def write_scaled(  # type: ignore[no-untyped-def]
    indptr, indices, data, tokens, scales, use_log, starts, out_ids, out_values
):
    """Write id and ``value · scale`` (then ``log1p`` if asked) of every kept entry of each row.

    Stored zeros and columns without an id (``tokens`` is -1) are left out; ``scales`` holds one
    float32 a row.
    """
    level = np.empty(_LEVELS, dtype=np.float32)
    filled, last = 0, np.float32(np.nan)
    for i in range(len(starts)):
        row = slice(indptr[i], indptr[i + 1])
        n = _kept(indices[row], data[row], tokens, out_ids[starts[i] :], out_values[starts[i] :])
        values, scale = out_values[starts[i] : starts[i] + n], scales[i]
        if not use_log:
            for k in range(n):
                values[k] *= scale
            continue
        if scale != last:
            filled, last = 0, scale
        largest = _largest_count(values)
        if largest < 0 or largest > max(n, filled):
            for k in range(n):
                values[k] = np.log1p(np.float32(values[k] * scale))
            continue
        for count in range(filled, largest + 1):
            level[count] = np.log1p(np.float32(np.float32(count) * scale))
        filled = max(filled, largest + 1)
        for k in range(n):
            values[k] = level[np.int32(values[k])]


@njit(cache=True, nogil=True)
def _kept(columns, row, tokens, ids, values):  # type: ignore[no-untyped-def]
    """Write ids and raw values of the kept entries, and count them."""
    at = 0
    for k in range(len(columns)):
        token = tokens[columns[k]]
        if token >= 0 and row[k] != 0:
            ids[at], values[at] = token, row[k]
            at += 1
    return at


@njit(cache=True, nogil=True)
def _largest_count(values):  # type: ignore[no-untyped-def]
    """Give the largest of small whole numbers, -1 where one is none."""
    wrong, largest = False, np.int32(0)
    for k in range(len(values)):
        count = np.int32(min(values[k], np.float32(_LEVELS)))
        wrong |= np.float32(count) != values[k]
        largest = max(largest, count)
    return np.int32(-1) if wrong or largest >= _LEVELS else largest
