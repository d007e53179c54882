"""One pair of modalities: matching and canonical correlation in turns, until both agree.

Round 0 matches on the linked space; every later round on the smoothed canonical coordinates and,
as an anchor, the linked space again, so that the rounds cannot drift away from what is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from cellweave.errors import NumericalError
from cellweave.weaving import unit_rows
from cellweave_maxfuse.matching import SoftMatching, blocks_of, soft_plan
from cellweave_maxfuse.smoothing import smooth

__all__ = ["PairFit", "RoundSettings", "Side", "fuse_pair"]

Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Hold one modality of a pair.

    Parameters
    ----------
    name
        The modality.
    white
        ``(n, p)`` float32 whitened representation.
    graph
        ``(n, n)`` smoothing operator.
    linked
        ``(n, d)`` float32 coordinates in the linked space of this pair.
    average, mass
        ``(g, n)`` operator from cells to metacells (``None``: cells), and their sizes.
    """

    name: str
    white: np.ndarray
    graph: sp.csr_matrix
    linked: np.ndarray
    average: sp.csr_matrix | None
    mass: np.ndarray

    def units(self, values: np.ndarray) -> np.ndarray:
        """Return values of the units that are matched: cells or metacells."""
        return values if self.average is None else self.average @ values


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """Hold the settings of the rounds; see :class:`~cellweave_maxfuse.integrator.MaxFuse`."""

    rounds: int
    n_components: int
    anchor: float
    smoothing: float
    power: float
    batch_size: int
    soft: SoftMatching


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFit:
    """Hold what the rounds found.

    Parameters
    ----------
    cross
        ``(p, q)`` whitened cross-covariance under the last soft matching.
    left_mean, right_mean
        Whitened means under the matching: cells without a counterpart count less.
    correlation
        The first canonical correlation of matched cells.
    history
        Mean distance of matches and sum of canonical correlations by round.
    """

    left: str
    right: str
    cross: np.ndarray
    left_mean: np.ndarray
    right_mean: np.ndarray
    correlation: float
    history: dict[str, list[float]]


def fuse_pair(left: Side, right: Side, settings: RoundSettings, report: Report) -> PairFit:
    """Run the rounds for two modalities."""
    white = left.units(left.white), right.units(right.white)
    linked = unit_rows(left.units(left.linked)), unit_rows(right.units(right.linked))
    points = linked
    history: dict[str, list[float]] = {"match_distance": [], "canonical_correlation": []}
    for step in range(settings.rounds):
        moments = _moments(points, white, (left.mass, right.mass), settings)
        loadings = _loadings(moments.cross, settings)
        history["match_distance"].append(moments.distance)
        correlations = moments.correlations(settings.n_components)
        history["canonical_correlation"].append(float(correlations.sum()))
        report(step + 1, {k: v[-1] for k, v in history.items()})
        if step + 1 < settings.rounds:
            points = tuple(  # type: ignore[assignment]
                _anchored(side, mean, axes, own, settings)
                for side, mean, axes, own in zip(
                    (left, right), moments.means, loadings, linked, strict=True
                )
            )
    return PairFit(
        left=left.name,
        right=right.name,
        cross=moments.cross,
        left_mean=moments.means[0],
        right_mean=moments.means[1],
        correlation=float(correlations[0]),
        history=history,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    cross: np.ndarray
    means: tuple[np.ndarray, np.ndarray]
    spreads: tuple[np.ndarray, np.ndarray]
    distance: float

    def correlations(self, k: int) -> np.ndarray:
        """Return the correlations along the leading axes, over the cells that are matched."""
        u, s, vt = np.linalg.svd(self.cross, full_matrices=False)
        left = np.einsum("pk,pq,qk->k", u, self.spreads[0], u)
        right = np.einsum("kp,pq,kq->k", vt, self.spreads[1], vt)
        values: np.ndarray = s[:k] / np.sqrt(np.maximum(left * right, 1e-24))[:k]
        return values


def _moments(
    points: tuple[np.ndarray, np.ndarray],
    white: tuple[np.ndarray, np.ndarray],
    masses: tuple[np.ndarray, np.ndarray],
    settings: RoundSettings,
) -> _Moments:
    """Match block by block and add up the cross-covariance; memory is one block's."""
    p, q = white[0].shape[1], white[1].shape[1]
    cross, mean_left, mean_right = np.zeros((p, q)), np.zeros(p), np.zeros(q)
    spread_left, spread_right = np.zeros((p, p)), np.zeros((q, q))
    distance, total = 0.0, float(masses[0].sum())
    for block in blocks_of(len(points[0]), len(points[1]), settings.batch_size):
        x, y = points[0][block.left], points[1][block.right]
        wx, wy = white[0][block.left], white[1][block.right]
        share = float(masses[0][block.left].sum()) / total
        away = np.float32(1) - x @ y.T
        plan = soft_plan(away, masses[0][block.left], masses[1][block.right], settings.soft)
        moved = plan @ np.concatenate([wy, y], axis=1)
        cross += share * (wx.T @ moved[:, :q])
        in_left, in_right = plan.sum(axis=1), plan.sum(axis=0)
        mean_left += share * (in_left @ wx)
        mean_right += share * (in_right @ wy)
        spread_left += share * ((wx * in_left[:, None]).T @ wx)
        spread_right += share * ((wy * in_right[:, None]).T @ wy)
        distance += share * (1 - float(np.einsum("ij,ij->", x, moved[:, q:], dtype=np.float64)))
    cross -= np.outer(mean_left, mean_right)
    if not np.isfinite(cross).all():
        msg = (
            "The cross-covariance of matched cells holds NaN or infinity. Expected numbers: look "
            "for extreme values in the representations, or raise `ridge`."
        )
        raise NumericalError(msg)
    spread_left -= np.outer(mean_left, mean_left)
    spread_right -= np.outer(mean_right, mean_right)
    return _Moments(
        cross=cross,
        means=(mean_left, mean_right),
        spreads=(spread_left, spread_right),
        distance=distance,
    )


def _loadings(cross: np.ndarray, settings: RoundSettings) -> tuple[np.ndarray, np.ndarray]:
    u, s, vt = np.linalg.svd(cross, full_matrices=False)
    k = min(settings.n_components, len(s))
    weight = (s[:k] / max(float(s[0]), 1e-12)) ** settings.power
    return u[:, :k] * weight, vt[:k].T * weight


def _anchored(
    side: Side, mean: np.ndarray, axes: np.ndarray, linked: np.ndarray, settings: RoundSettings
) -> np.ndarray:
    """Return unit rows whose dot product mixes canonical and linked cosine by ``anchor``."""
    along = ((side.white - mean) @ axes).astype(np.float32)
    canonical = unit_rows(side.units(smooth(side.graph, along, weight=settings.smoothing)))
    anchor = np.float32(settings.anchor)
    return np.concatenate([np.sqrt(1 - anchor) * canonical, np.sqrt(anchor) * linked], axis=1)
