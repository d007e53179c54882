"""Canonical correlation in closed form: whiten both sides, one SVD of the cross-covariance.

``max u'Cxy v`` under ``u'(Cxx + r t_x I)u = v'(Cyy + r t_y I)v = 1``, ``t`` the mean eigenvalue.
With soft matches ``P`` the cross-covariance is ``X'PY``, so no cell needs exactly one partner.
Three or more sides: MAXVAR (Kettenring 1971), the leading eigenvectors of the block matrix of
whitened cross-covariances; for two sides these are the canonical pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["CanonicalPairs", "canonical_correlation", "common_axes", "whitening"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalPairs:
    """Hold loadings ``(p, k)`` and ``(q, k)`` of centred values, and correlations ``(k,)``."""

    left: np.ndarray
    right: np.ndarray
    correlations: np.ndarray


def whitening(centred: np.ndarray, ridge: float) -> np.ndarray:
    """Return ``W`` so that ``centred @ W`` has unit covariance (below 1 with a ridge)."""
    values = centred.astype(np.float64)
    size, axes = np.linalg.eigh(values.T @ values / len(values))
    size = np.maximum(size, 0)
    kept = size > size.max() * 1e-10
    damped = size[kept] + ridge * size[kept].mean()
    whitened: np.ndarray = axes[:, kept] / np.sqrt(damped)
    return whitened


def canonical_correlation(
    left: np.ndarray, right: np.ndarray, n_components: int, *, ridge: float = 0.0
) -> CanonicalPairs:
    """Return the canonical pairs of two matrices with matched rows.

    Parameters
    ----------
    left, right
        ``(n, p)`` and ``(n, q)``, row ``i`` with row ``i``; not changed.
    n_components
        Number of pairs, at most ``min(p, q)``.
    ridge
        Share of the mean variance added to every variance.
    """
    x = left.astype(np.float64) - left.mean(axis=0, dtype=np.float64)
    y = right.astype(np.float64) - right.mean(axis=0, dtype=np.float64)
    white_x, white_y = whitening(x, ridge), whitening(y, ridge)
    cross = white_x.T @ (x.T @ y / len(x)) @ white_y
    u, s, vt = np.linalg.svd(cross, full_matrices=False)
    k = min(n_components, len(s))
    return CanonicalPairs(left=white_x @ u[:, :k], right=white_y @ vt[:k].T, correlations=s[:k])


def common_axes(
    crosses: Mapping[tuple[str, str], np.ndarray], widths: Mapping[str, int], n_components: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each side's ``(p, k)`` axes in one common space, and the agreement along each.

    Parameters
    ----------
    crosses
        Whitened cross-covariance of pairs of sides.
    widths
        Whitened width of each side.
    n_components
        Number of axes.
    """
    if len(widths) == 2:
        return _two_sides(crosses, n_components)
    names = sorted(widths)
    starts = dict(zip(names, np.cumsum([0, *(widths[m] for m in names)])[:-1], strict=True))
    block = np.eye(sum(widths.values()))
    for (a, b), cross in crosses.items():
        rows = slice(starts[a], starts[a] + widths[a])
        cols = slice(starts[b], starts[b] + widths[b])
        block[rows, cols], block[cols, rows] = cross, cross.T
    size, axes = np.linalg.eigh(block)
    k = min(n_components, *widths.values())
    axes = _signed(axes[:, ::-1][:, :k])
    agreement = np.clip((size[::-1][:k] - 1) / (len(names) - 1), 0, 1)
    loadings = {m: axes[starts[m] : starts[m] + widths[m]] * np.sqrt(len(names)) for m in names}
    return loadings, agreement


def _two_sides(
    crosses: Mapping[tuple[str, str], np.ndarray], n_components: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    ((a, b), cross) = next(iter(crosses.items()))
    u, s, vt = np.linalg.svd(cross, full_matrices=False)
    k = min(n_components, len(s))
    both = _signed(np.concatenate([u[:, :k], vt[:k].T]))
    return {a: both[: len(u)], b: both[len(u) :]}, s[:k]


def _signed(axes: np.ndarray) -> np.ndarray:
    """Fix the sign of each column: its largest entry is positive."""
    largest = np.abs(axes).argmax(axis=0)
    signed: np.ndarray = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    return signed
