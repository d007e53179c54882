"""How far links can be trusted before anything rests on them."""

from __future__ import annotations

import numpy as np

from cellweave.weaving.linalg import standardised

__all__ = ["advice_on_links", "link_agreement"]

_FEW_COLUMNS = 8
_CHANCE = 3.0


def link_agreement(
    left: np.ndarray, right: np.ndarray, *, shuffles: int = 20
) -> tuple[float, float]:
    """Return how alike linked features co-vary in both modalities, and how far above chance.

    The first is the correlation of the two feature–feature correlation matrices off the diagonal;
    the second its distance from that of shuffled links, in deviations of the shuffles.

    Parameters
    ----------
    left, right
        ``(n, s)`` and ``(m, s)`` linked values; columns correspond.
    shuffles
        Number of shuffles.
    """
    s = left.shape[1]
    if s < 4:
        return float("nan"), float("nan")
    a, b = _off_diagonal(left), _off_diagonal(right)
    real = float((a * b).sum())
    rng = np.random.default_rng(0)
    null = []
    for _ in range(shuffles):
        order = rng.permutation(s)
        null.append(float((a * b[np.ix_(order, order)]).sum()))
    spread = max(float(np.std(null)), 1e-12)
    return real, (real - float(np.mean(null))) / spread


def advice_on_links(left: str, right: str, *, columns: int, link_z: float) -> list[str]:
    """Return what is wrong with the links of a pair and what to try; nothing when sound."""
    who = f"{left!r} and {right!r}"
    found = []
    if columns < _FEW_COLUMNS:
        found.append(
            f"Only {columns} linked features join {who}. Add links (aliases, complexes, "
            "pathways), or trust coarse types at most."
        )
    if link_z < _CHANCE:
        found.append(
            f"The links of {who} co-vary hardly more alike than shuffled links "
            f"({link_z:.1f} deviations; sound links reach 3 and more). Check gene names, "
            "organism, genome build and the window of the links."
        )
    return found


def _off_diagonal(values: np.ndarray) -> np.ndarray:
    scaled = standardised(values)
    matrix = (scaled.T @ scaled) / len(scaled)
    outside = ~np.eye(len(matrix), dtype=bool)
    matrix = np.where(outside, matrix - matrix[outside].mean(), 0)
    size = np.linalg.norm(matrix)
    unit: np.ndarray = matrix / (size if size > 0 else 1)
    return unit
