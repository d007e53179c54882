"""Genes that vary more than genes of their mean: standardised variance of counts, by batch.

Paper: Stuart et al., Cell 2019 ("seurat_v3"; Hafemeister & Satija for the clipping).
Objective: log10 σ²_g ≈ f(log10 μ_g) by local quadratic regression;
z_ig = min((x_ig − μ_g)/σ̂_g, √n); score_g = Σ_i z_ig² / (n − 1); across batches by median rank.
We depart in the regression only: it is solved at 200 quantiles of the means and interpolated
between them, so that no Fortran loess (scikit-misc) has to be installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["local_quadratic", "standardised_variances", "variable_genes"]

_ANCHORS = 200


def variable_genes(
    counts: sp.csr_matrix, *, batches: np.ndarray | None, n_top: int, span: float = 0.3
) -> pd.DataFrame:
    """Rank genes by standardised variance and mark the best.

    Parameters
    ----------
    counts
        ``(n_cells, n_genes)`` raw counts.
    batches
        Batch of each cell; genes are ranked within each, then by in how many batches they are
        among the best, then by the median of their ranks there.
    n_top
        How many to mark; all when there are fewer genes.
    span
        Share of the genes that each local regression sees.

    Returns
    -------
    One row a gene: ``mean``, ``variance``, ``standardised_variance``, ``rank`` (NaN when never
    among the best), ``n_batches``, ``highly_variable``.
    """
    import pandas as pd

    labels = np.zeros(counts.shape[0], dtype=int) if batches is None else np.asarray(batches)
    scores = np.stack(
        [
            standardised_variances(sp.csr_matrix(counts[labels == name]), span=span)
            for name in pd.unique(labels)
        ]
    )
    ranks = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1).astype(float)
    ranks[ranks >= n_top] = np.nan
    n_batches = np.isfinite(ranks).sum(axis=0)
    median = _median_or_nan(ranks)
    order = np.lexsort((np.nan_to_num(median, nan=np.inf), -n_batches))
    chosen = np.zeros(counts.shape[1], dtype=bool)
    chosen[order[:n_top]] = True
    mean, variance = moments(counts)
    return pd.DataFrame(
        {
            "mean": mean,
            "variance": variance,
            "standardised_variance": scores.mean(axis=0),
            "rank": median,
            "n_batches": n_batches,
            "highly_variable": chosen,
        }
    )


def standardised_variances(counts: sp.csr_matrix, *, span: float = 0.3) -> np.ndarray:
    """Return the variance of each gene after clipping and dividing by what its mean foretells."""
    n = counts.shape[0]
    mean, variance = moments(counts)
    varies = variance > 0
    expected = np.ones(counts.shape[1])
    if varies.sum() > 0:
        fitted = local_quadratic(np.log10(mean[varies]), np.log10(variance[varies]), span=span)
        expected[varies] = np.sqrt(10**fitted)
    cap = mean + expected * np.sqrt(n)
    clipped = np.minimum(counts.data.astype(np.float64), cap[counts.indices])
    n_genes = counts.shape[1]
    total = np.bincount(counts.indices, weights=clipped, minlength=n_genes)
    square = np.bincount(counts.indices, weights=clipped**2, minlength=n_genes)
    spread = n * mean**2 + square - 2 * mean * total
    return np.where(varies, spread / (max(n - 1, 1) * expected**2), 0.0)


def local_quadratic(x: np.ndarray, y: np.ndarray, *, span: float) -> np.ndarray:
    """Smooth ``y`` over ``x``: tricube-weighted quadratics of the nearest ``span``."""
    order = np.argsort(x, kind="stable")
    xs, ys = x[order], y[order]
    n = len(xs)
    width = min(n, max(4, int(np.ceil(span * n))))
    anchors = np.unique(xs[np.linspace(0, n - 1, min(n, _ANCHORS)).round().astype(int)])
    fitted = np.array([_fit_at(at, xs, ys, width) for at in anchors])
    return np.interp(x, anchors, fitted)


def _fit_at(at: float, xs: np.ndarray, ys: np.ndarray, width: int) -> float:
    low = _window_start(at, xs, width)
    dx, values = xs[low : low + width] - at, ys[low : low + width]
    reach = np.abs(dx).max()
    if reach == 0:
        return float(values.mean())
    root = np.sqrt(np.clip(1 - (np.abs(dx) / reach) ** 3, 0, None) ** 3)
    scaled = dx / reach
    design = np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1) * root[:, None]
    return float(np.linalg.lstsq(design, values * root, rcond=1e-9)[0][0])


def _window_start(at: float, xs: np.ndarray, width: int) -> int:
    """Find the ``width`` neighbouring points nearest to ``at`` (``xs`` sorted)."""
    first, last = 0, len(xs) - width
    while first < last:
        middle = (first + last) // 2
        if at - xs[middle] > xs[middle + width] - at:
            first = middle + 1
        else:
            last = middle
    return first


def moments(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (ddof 1) of each column, in float64."""
    n, n_genes = matrix.shape
    values = matrix.data.astype(np.float64)
    mean = np.bincount(matrix.indices, weights=values, minlength=n_genes) / n
    square = np.bincount(matrix.indices, weights=values**2, minlength=n_genes)
    variance = np.maximum(square - n * mean**2, 0) / max(n - 1, 1)
    return mean, variance


def _median_or_nan(ranks: np.ndarray) -> np.ndarray:
    median = np.full(ranks.shape[1], np.nan)
    seen = np.isfinite(ranks).any(axis=0)
    median[seen] = np.nanmedian(ranks[:, seen], axis=0)
    return median
