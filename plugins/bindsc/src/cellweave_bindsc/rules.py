"""How alpha, lambda and the rank follow from the data; the authors leave them to the eye.

- rank: how many singular values of ``XᵀZ0`` rise 10 % above the floor (the median of the leading
  50), from 10 to 30: on SNARE-seq, where the floor begins at the eleventh, ranks of 10, 15, 20 and
  30 give FOSCTTM 0.149, 0.165, 0.171 and 0.186; on CITE-seq any rank from 10 gives the same;
- alpha, the pull to ``Z0``: half the share of ``Z0`` that the leading cell space of ``Y`` does
  *not* hold, from 0.1 to 0.5. What ``Y`` explains may be replaced by its explanation; what it
  does not would otherwise be lost. CITE-seq gets 0.2 and SNARE-seq 0.43 so, near the best of both;
- lambda, cells against features: the share of ``Z0`` in the leading features of ``X``, against the
  share in the leading cell space of ``Y``, from 0.1 to 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Chosen", "choose", "rank_above_floor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Hold the parameters that a fit uses."""

    alpha: float
    lam: float
    n_components: int


def choose(
    x: np.ndarray, z0: np.ndarray, y: np.ndarray, sizes: np.ndarray, given: Chosen
) -> Chosen:
    """Return the parameters: those given (0 or more), and by rule those that are negative or 0.

    Parameters
    ----------
    x, z0, y
        As bi-order CCA takes them.
    sizes
        Leading singular values of ``XᵀZ0``.
    given
        ``n_components=0``, ``alpha=-1`` and ``lam=-1`` ask for the rule.
    """
    rank = given.n_components or rank_above_floor(sizes)
    by_cells, by_features = _shares(x, z0, y, rank)
    alpha = given.alpha if given.alpha >= 0 else float(np.clip((1 - by_features) / 2, 0.1, 0.5))
    balance = float(np.clip(by_cells / max(by_cells + by_features, 1e-12), 0.1, 0.9))
    lam = given.lam if given.lam >= 0 else balance
    return Chosen(alpha=alpha, lam=lam, n_components=min(rank, x.shape[1]))


def rank_above_floor(sizes: np.ndarray, *, low: int = 10, high: int = 30) -> int:
    """Return how many leading singular values rise 10 % above the median of the first 50."""
    floor = float(np.median(sizes[:50]))
    above = int(np.cumprod(sizes > 1.1 * floor).sum())
    return int(np.clip(above, min(low, len(sizes)), min(high, len(sizes))))


def _shares(x: np.ndarray, z0: np.ndarray, y: np.ndarray, rank: int) -> tuple[float, float]:
    axes = np.linalg.svd(np.linalg.qr(x, mode="r"), full_matrices=False)[2][:rank]
    held = np.linalg.svd(np.linalg.qr(y)[0].T @ z0, compute_uv=False)[:rank]
    total = max(float((z0**2).sum()), 1e-30)
    return float(((z0 @ axes.T) ** 2).sum()) / total, float((held**2).sum()) / total
