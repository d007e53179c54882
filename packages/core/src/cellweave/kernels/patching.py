"""Cut each cell's features, in their given order, into patches of one width."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["count_patches", "write_patches"]


@njit(cache=True, nogil=True)
def count_patches(indptr, indices, data, patch_of):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Count the patches of each row that hold a non-zero value.

    ``patch_of`` names the patch of each column, ``-1`` for none; rows ascend in it.
    """
    counts = np.empty(len(indptr) - 1, dtype=np.int64)
    for i in range(len(counts)):
        n, last = 0, -1
        for k in range(indptr[i], indptr[i + 1]):
            patch = patch_of[indices[k]]
            if patch >= 0 and patch != last and data[k] != 0:
                n += 1
                last = patch
        counts[i] = n
    return counts


@njit(cache=True, nogil=True)
def write_patches(  # type: ignore[no-untyped-def]  # noqa: ANN201
    indptr, indices, data, patch_of, place_of, first_id, starts, limits, keep_empty,  # noqa: ANN001
    out_ids, out_values, out_positions,  # noqa: ANN001
):  # fmt: skip
    """Write one token a patch: id, its values side by side, its position along the genome.

    ``out_values`` is ``(n_tokens, width)`` and must be zero. With ``keep_empty`` row ``i`` has
    ``limits[i]`` tokens, patch after patch; else only patches with a value, in order.
    """
    for i in range(len(starts)):
        at, last = starts[i] - 1, -1
        end = starts[i] + limits[i]
        if keep_empty:
            for p in range(limits[i]):
                out_ids[starts[i] + p] = first_id + p
                out_positions[starts[i] + p] = p
        for k in range(indptr[i], indptr[i + 1]):
            patch = patch_of[indices[k]]
            if patch < 0 or data[k] == 0:
                continue
            if keep_empty:
                if patch < limits[i]:
                    out_values[starts[i] + patch, place_of[indices[k]]] = data[k]
                continue
            if patch != last:
                if at + 1 == end:
                    break
                at += 1
                last = patch
                out_ids[at] = first_id + patch
                out_positions[at] = patch
            out_values[at, place_of[indices[k]]] = data[k]
