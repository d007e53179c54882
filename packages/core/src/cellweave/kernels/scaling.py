"""Values of kept entries, scaled and logged.

Counts of one cell repeat: of a thousand entries few are distinct. A small whole count is logged
once a cell and looked up from then on.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["write_scaled"]

_LEVELS = 256


@njit(cache=True, nogil=True)
def write_scaled(  # type: ignore[no-untyped-def]
    indptr, indices, data, tokens, scales, use_log, starts, out_ids, out_values
):
    """Write id and ``value · scale`` (then ``log1p`` if asked) of every kept entry of each row.

    Stored zeros and columns without an id (``tokens`` is -1) are left out; ``scales`` holds one
    float32 a row.
    """
    known = np.zeros(_LEVELS, dtype=np.int64)
    level = np.empty(_LEVELS, dtype=np.float32)
    turn, last = 0, np.float32(np.nan)
    for i in range(len(starts)):
        scale, at = scales[i], starts[i]
        if scale != last:
            turn, last = turn + 1, scale
        for k in range(indptr[i], indptr[i + 1]):
            token, value = tokens[indices[k]], data[k]
            if token < 0 or value == 0:
                continue
            out_ids[at] = token
            out_values[at] = _looked_up(value, scale, use_log, turn, known, level)
            at += 1


@njit(cache=True, nogil=True, inline="always")
def _looked_up(value, scale, use_log, turn, known, level):  # type: ignore[no-untyped-def]
    if not use_log:
        return np.float32(value * scale)
    if value < _LEVELS:
        whole = np.uint8(value)
        if np.float32(whole) == value:
            if known[whole] != turn:
                known[whole] = turn
                level[whole] = np.log1p(np.float32(value * scale))
            return level[whole]
    return np.log1p(np.float32(value * scale))
