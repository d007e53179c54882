"""Cell matches: assigned pivots, screened; every other cell by its nearest pivot; a score each.

The score of a pair is the cosine of both cells in the joint space, smoothed over each modality's
graph, and 0 where that is negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellweave.kernels.neighbours import nearest
from cellweave_maxfuse.assignment import assign

__all__ = ["CellMatches", "match_cells"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMatches:
    """Hold pairs of canonical positions; every cell of both sides is in at least one."""

    rows: np.ndarray
    cols: np.ndarray
    scores: np.ndarray
    n_pivots: int


def match_cells(
    points: tuple[np.ndarray, np.ndarray],
    representations: tuple[np.ndarray, np.ndarray],
    *,
    screen: float,
) -> CellMatches:
    """Return matches of all cells.

    Parameters
    ----------
    points
        Smoothed joint coordinates of both sides, rows of unit length.
    representations
        Each side's own representation, in which the nearest pivot is sought.
    screen
        Share of assigned pairs to drop, the least similar.
    """
    rows, cols = assign(*points)
    scores = _scores(points, rows, cols)
    kept = scores >= np.quantile(scores, screen) if screen > 0 else np.ones(len(rows), dtype=bool)
    pivots = rows[kept], cols[kept]
    left = _propagated(representations[0], *pivots)
    cols_, rows_ = _propagated(representations[1], pivots[1], pivots[0])
    all_rows = np.concatenate([pivots[0], left[0], rows_])
    all_cols = np.concatenate([pivots[1], left[1], cols_])
    code = np.unique(all_rows * np.int64(len(points[1])) + all_cols)
    final = code // len(points[1]), code % len(points[1])
    return CellMatches(
        rows=final[0],
        cols=final[1],
        scores=_scores(points, *final),
        n_pivots=int(kept.sum()),
    )


def _propagated(
    representation: np.ndarray, own: np.ndarray, partner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells that are no pivots, and the partner of the pivot nearest to each."""
    others = np.setdiff1d(np.arange(len(representation)), own)
    if len(others) == 0:
        return others, others
    found, _ = nearest(representation[others], representation[own], k=1, exact_up_to=150_000)
    return others, partner[found[:, 0]]


def _scores(
    points: tuple[np.ndarray, np.ndarray], rows: np.ndarray, cols: np.ndarray
) -> np.ndarray:
    cosine = np.einsum("ij,ij->i", points[0][rows], points[1][cols])
    scores: np.ndarray = np.clip(cosine, 0, 1).astype(np.float32)
    return scores
