"""The first co-embedding: what the linked features alone say, once smoothed.

``A, B`` smoothed linked values, columns standardised and weighted by how much of their spread
survived smoothing in both modalities (noise averages out, structure stays), rows of unit length.
``A B' ≈ U D V'`` gives coordinates ``U D^½`` and ``V D^½`` in one space; no cells × cells matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellweave_maxfuse.smoothing import standardised, unit_rows

__all__ = ["LinkedSpace", "link_agreement", "linked_space"]

_EXACT_WIDTH = 600
_OVERSAMPLING, _POWERS = 12, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedSpace:
    """Hold unit-length coordinates ``(n, d)`` of both sides and the ``(d,)`` singular values."""

    left: np.ndarray
    right: np.ndarray
    sizes: np.ndarray


def linked_space(left: np.ndarray, right: np.ndarray, n_components: int) -> LinkedSpace:
    """Return the co-embedding of two smoothed linked matrices with corresponding columns.

    ``left`` and ``right`` hold values that were standardised *before* smoothing.
    """
    kept = np.sqrt(left.std(axis=0) * right.std(axis=0))
    a, b = unit_rows(standardised(left) * kept), unit_rows(standardised(right) * kept)
    u, s, v = product_svd(a, b, n_components)
    scale = np.sqrt(s / s[0]) if len(s) and s[0] > 0 else s
    return LinkedSpace(
        left=unit_rows((u * scale).astype(np.float32)),
        right=unit_rows((v * scale).astype(np.float32)),
        sizes=s,
    )


def product_svd(
    a: np.ndarray, b: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the leading singular triplets of ``a @ b.T`` without forming it."""
    if a.shape[1] <= _EXACT_WIDTH:
        (qa, ra), (qb, rb) = np.linalg.qr(a), np.linalg.qr(b)
        u, s, vt = np.linalg.svd(ra.astype(np.float64) @ rb.T.astype(np.float64))
        k = min(n_components, len(s))
        return _signed(qa @ u[:, :k], s[:k], qb @ vt[:k].T)
    width = min(n_components + _OVERSAMPLING, len(a), len(b))
    # Fixed start: a constant of the algorithm, so that the result is a function of the data alone.
    start = np.random.default_rng(0).standard_normal((a.shape[1], width)).astype(np.float32)
    basis = np.linalg.qr(a @ start)[0]
    for _ in range(_POWERS):
        other = np.linalg.qr(b @ (a.T @ basis))[0]
        basis = np.linalg.qr(a @ (b.T @ other))[0]
    core = (basis.T @ a) @ b.T
    u, s, vt = np.linalg.svd(core, full_matrices=False)
    k = min(n_components, len(s))
    return _signed(basis @ u[:, :k], s[:k], vt[:k].T)


def link_agreement(
    left: np.ndarray, right: np.ndarray, *, shuffles: int = 20
) -> tuple[float, float]:
    """Return how alike linked features co-vary in both modalities, and how far above chance.

    The first is the correlation of the two feature–feature correlation matrices off the diagonal;
    the second its distance from that of shuffled links, in deviations of the shuffles.
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


def _off_diagonal(values: np.ndarray) -> np.ndarray:
    scaled = standardised(values)
    matrix = (scaled.T @ scaled) / len(scaled)
    outside = ~np.eye(len(matrix), dtype=bool)
    matrix = np.where(outside, matrix - matrix[outside].mean(), 0)
    size = np.linalg.norm(matrix)
    unit: np.ndarray = matrix / (size if size > 0 else 1)
    return unit


def _signed(
    u: np.ndarray, s: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fix the sign of each triplet: the larger side's largest entry is positive."""
    sums = (u**3).sum(axis=0) + (v**3).sum(axis=0)
    sign = np.where(sums < 0, -1.0, 1.0)
    return u * sign, s, v * sign
