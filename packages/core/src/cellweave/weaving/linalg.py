"""Products of tall matrices without the cells × cells matrix; scaling of rows and columns."""

from __future__ import annotations

import numpy as np

__all__ = ["product_svd", "standardised", "unit_rows"]

_EXACT_WIDTH = 600
_OVERSAMPLING, _POWERS = 12, 5


def product_svd(
    a: np.ndarray, b: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the leading singular triplets ``u, s, v`` of ``a @ b.T`` without forming it.

    Parameters
    ----------
    a, b
        ``(n, m)`` and ``(l, m)``; not changed. Up to 600 columns the result is exact (QR of both,
        SVD of the core), beyond by block powers from a fixed start, so that it is a function of
        the data alone.
    n_components
        Number of triplets. The sign of each is fixed by its entries.
    """
    if a.shape[1] <= _EXACT_WIDTH:
        (qa, ra), (qb, rb) = np.linalg.qr(a), np.linalg.qr(b)
        u, s, vt = np.linalg.svd(ra.astype(np.float64) @ rb.T.astype(np.float64))
        k = min(n_components, len(s))
        return _signed(qa @ u[:, :k], s[:k], qb @ vt[:k].T)
    width = min(n_components + _OVERSAMPLING, len(a), len(b))
    start = np.random.default_rng(0).standard_normal((a.shape[1], width)).astype(np.float32)
    basis = np.linalg.qr(a @ start)[0]
    for _ in range(_POWERS):
        other = np.linalg.qr(b @ (a.T @ basis))[0]
        basis = np.linalg.qr(a @ (b.T @ other))[0]
    u, s, vt = np.linalg.svd((basis.T @ a) @ b.T, full_matrices=False)
    k = min(n_components, len(s))
    return _signed(basis @ u[:, :k], s[:k], vt[:k].T)


def standardised(values: np.ndarray) -> np.ndarray:
    """Return columns of mean 0 and deviation 1; constant columns become 0."""
    spread = values.std(axis=0)
    spread[spread < 1e-6] = np.inf
    scaled: np.ndarray = ((values - values.mean(axis=0)) / spread).astype(np.float32)
    return scaled


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Return rows of length 1; rows of zeros stay."""
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))
    rows: np.ndarray = values / np.where(norms > 0, norms, 1)[:, None]
    return rows


def _signed(
    u: np.ndarray, s: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sign = np.where((u**3).sum(axis=0) + (v**3).sum(axis=0) < 0, -1.0, 1.0)
    return u * sign, s, v * sign
