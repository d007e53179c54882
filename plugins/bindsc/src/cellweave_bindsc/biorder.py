"""Bi-order canonical correlation without a cells × cells matrix.

``X`` (features × cells of one side), ``Y`` (other features × cells of the other), ``Z`` the
transition matrix: cells of ``Y`` in the features of ``X``, starting at ``Z0``. In turns

    XᵀZ ≈ U D Vᵀ,  Z_l = X U Vᵀ;     Z Yᵀ ≈ S E Rᵀ,  Z_r = S Rᵀ Y;
    Z ← (1 − α) [λ Z_l/|Z_l| + (1 − λ) Z_r/|Z_r|] + α Z0/|Z0|

until ``Z`` stands still. ``XᵀZ`` has as many rows and columns as there are cells, but its rank is
at most the number of features: from ``Xᵀ = Q_x R_x`` and ``Zᵀ = Q_z R_z`` its SVD is that of the
small core ``R_x R_zᵀ``, exactly. All arrays here have cells as rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cellweave.errors import NumericalError

__all__ = ["BiOrder", "BiOrderSettings", "bi_order_cca"]

Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BiOrderSettings:
    """Hold ``alpha`` (pull to Z0), ``lam`` (cells against features), rank, and when to stop."""

    alpha: float
    lam: float
    n_components: int
    max_iterations: int = 50
    tolerance: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class BiOrder:
    """Hold what the turns found.

    Parameters
    ----------
    left, right
        ``(cells, k)`` orthonormal canonical vectors of the cells of ``X`` and of ``Z``.
    sizes
        ``(k,)`` singular values of ``XᵀZ``.
    features_left, features_right
        ``(features, k)`` canonical vectors of the features of ``X`` and of ``Y``.
    transition
        ``(cells of Y, features of X)``: ``Z`` at the end.
    history
        Change of ``Z``, and the two trace correlations, by turn.
    """

    left: np.ndarray
    right: np.ndarray
    sizes: np.ndarray
    features_left: np.ndarray
    features_right: np.ndarray
    transition: np.ndarray
    history: dict[str, list[float]]


def bi_order_cca(
    x: np.ndarray,
    z0: np.ndarray,
    y: np.ndarray,
    settings: BiOrderSettings,
    report: Report | None = None,
) -> BiOrder:
    """Run bi-order CCA.

    Parameters
    ----------
    x
        ``(K, M)`` cells of one modality in linked features.
    z0
        ``(L, M)`` cells of the other in the same features.
    y
        ``(L, N)`` cells of the other in its own features.
    settings
        See :class:`BiOrderSettings`.
    report
        Called after every turn with its number and what is optimised.
    """
    qx, rx = np.linalg.qr(x)
    start = z0 / _size(z0)
    z = start
    history: dict[str, list[float]] = {"change": [], "cell_trace": [], "feature_trace": []}
    for turn in range(settings.max_iterations):
        if not (np.isfinite(z).all() and np.isfinite(z.T @ y).all()):
            raise NumericalError(_where(turn))
        u, d, v = _cell_side(qx, rx, z, settings.n_components)
        s, e, r = _feature_side(z, y, settings.n_components)
        by_cells, by_features = v @ (u.T @ x), (y @ r) @ s.T
        pulled = settings.lam * by_cells / _size(by_cells)
        pulled += (1 - settings.lam) * by_features / _size(by_features)
        new = ((1 - settings.alpha) * pulled + settings.alpha * start).astype(z.dtype)
        change = _size(new - z) / _size(z)
        z = new
        values = {"change": change, "cell_trace": float(d.sum()), "feature_trace": float(e.sum())}
        for name, value in values.items():
            history[name].append(value)
        if report is not None:
            report(turn + 1, values)
        if change < settings.tolerance:
            break
    u, d, v = _cell_side(qx, rx, z, settings.n_components)
    s, _, r = _feature_side(z, y, settings.n_components)
    return BiOrder(
        left=u, right=v, sizes=d, features_left=s, features_right=r, transition=z, history=history
    )


def _cell_side(
    qx: np.ndarray, rx: np.ndarray, z: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    qz, rz = np.linalg.qr(z)
    a, d, bt = np.linalg.svd(rx.astype(np.float64) @ rz.T.astype(np.float64))
    k = min(k, len(d))
    return (qx @ a[:, :k]).astype(z.dtype), d[:k], (qz @ bt[:k].T).astype(z.dtype)


def _feature_side(
    z: np.ndarray, y: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s, e, rt = np.linalg.svd((z.T @ y).astype(np.float64), full_matrices=False)
    k = min(k, len(e))
    return s[:, :k].astype(z.dtype), e[:k], rt[:k].T.astype(z.dtype)


def _size(matrix: np.ndarray) -> float:
    return max(float(np.linalg.norm(matrix)), 1e-30)


def _where(turn: int) -> str:
    return (
        f"The transition matrix, or its product with the other features, holds NaN or infinity in "
        f"turn {turn + 1}. Expected numbers: look for extreme values in the linked features or the "
        "representation."
    )
