"""Values of kept entries, scaled and logged.

Counts of one cell repeat: of a thousand entries few are distinct. Where all are small whole numbers
each of them is logged once a cell, and entries are looked up.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.kernels.ragged import kept_entries, largest_count, write_ids

__all__ = ["write_scaled"]

_LEVELS = 512


def write_scaled(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, tokens: np.ndarray,
    scales: np.ndarray, use_log: bool, starts: np.ndarray, out_ids: np.ndarray,
    out_values: np.ndarray, *, all_kept: bool = False,
) -> None:  # fmt: skip
    """Write id and ``value · scale`` (then ``log1p`` if asked) of every kept entry of each row.

    Stored zeros and columns without an id (``tokens`` is -1) are left out; ``all_kept`` says that
    there are none of either. ``scales`` holds one float32 a row.
    """
    # Ids that follow each other need no look-up: the usual case on data of the same genes.
    run = all_kept and len(tokens) > 0 and bool(np.all(np.diff(tokens) == 1))
    _write_scaled(
        indptr, indices, data, tokens, bool(all_kept), run, scales, bool(use_log), starts,
        out_ids, out_values,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _write_scaled(  # type: ignore[no-untyped-def]
    indptr, indices, data, tokens, all_kept, run, scales, use_log, starts, out_ids, out_values
):
    level = np.empty(_LEVELS, dtype=np.float32)
    filled, last = 0, np.float32(np.nan)
    for i in range(len(starts)):
        row, scale = slice(indptr[i], indptr[i + 1]), scales[i]
        ids, out = out_ids[starts[i] :], out_values[starts[i] :]
        if all_kept:
            counts = data[row]
            write_ids(indices[row], tokens, run, ids)
        else:
            counts = out[: kept_entries(indices[row], data[row], tokens, ids, out)]
        if not use_log:
            for k in range(len(counts)):
                out[k] = counts[k] * scale
            continue
        if scale != last:
            filled, last = 0, scale
        largest = largest_count(counts, _LEVELS)
        if largest < 0 or largest > max(len(counts), filled):
            for k in range(len(counts)):
                out[k] = np.log1p(np.float32(counts[k] * scale))
            continue
        for count in range(filled, largest + 1):
            level[count] = np.log1p(np.float32(np.float32(count) * scale))
        filled = max(filled, largest + 1)
        for k in range(len(counts)):
            out[k] = level[np.uint32(np.int32(counts[k]))]
