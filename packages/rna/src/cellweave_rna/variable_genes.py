"""Genes that vary more than genes of their mean: standardised variance of counts, by batch.

Paper: Stuart et al., Cell 2019 ("seurat_v3"; Hafemeister & Satija for the clipping).
Objective: log10 σ²_g ≈ f(log10 μ_g) by local quadratic regression;
z_ig = min((x_ig − μ_g)/σ̂_g, √n); score_g = Σ_i z_ig² / (n − 1); across batches by median rank.
We depart in the regression only: it is solved, with its slope, at 200 quantiles of the means and
joined by cubics between them (Fortran's loess, in scikit-misc, does so at some twenty points), so
that nothing has to be compiled. Counts may be a Dask array: three passes over its blocks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.preparing import sum_over_blocks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["local_quadratic", "standardised_variances", "variable_genes"]

_ANCHORS = 200


def variable_genes(
    counts: Any, *, batches: np.ndarray | None, n_top: int, span: float = 0.3
) -> pd.DataFrame:
    """Rank genes by standardised variance and mark the best.

    Parameters
    ----------
    counts
        ``(n_cells, n_genes)`` raw counts, CSR or a Dask array of CSR blocks.
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

    codes = np.zeros(counts.shape[0], dtype=np.int64)
    if batches is not None:
        codes = pd.factorize(np.asarray(batches))[0].astype(np.int64)
    scores = _standardised_variances(counts, codes, span)
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


def standardised_variances(counts: Any, *, span: float = 0.3) -> np.ndarray:
    """Return the variance of each gene after clipping and dividing by what its mean foretells."""
    scores: np.ndarray = _standardised_variances(counts, np.zeros(counts.shape[0], "i8"), span)[0]
    return scores


def _standardised_variances(counts: Any, codes: np.ndarray, span: float) -> np.ndarray:
    """Return ``(n_batches, n_genes)``; every pass sees each cell once, whatever its batch."""
    n = np.bincount(codes)[:, None]
    mean, variance = _batch_moments(counts, codes, n)
    expected = np.stack([_foretold(m, v, span) for m, v in zip(mean, variance, strict=True)])
    cap = mean + expected * np.sqrt(n)
    clipped = sum_over_blocks(
        partial(_sums, n_batches=len(n), cap=cap),
        counts, codes, shape=(2 * len(n), counts.shape[1]),
    )  # fmt: skip
    total, square = clipped[: len(n)], clipped[len(n) :]
    spread = n * mean**2 + square - 2 * mean * total
    return np.where(variance > 0, spread / (np.maximum(n - 1, 1) * expected**2), 0.0)


def _foretold(mean: np.ndarray, variance: np.ndarray, span: float) -> np.ndarray:
    """Return the standard deviation that a gene's mean lets expect; 1 where nothing varies."""
    varies = variance > 0
    expected = np.ones(len(mean))
    if varies.any():
        fitted = local_quadratic(np.log10(mean[varies]), np.log10(variance[varies]), span=span)
        expected[varies] = np.sqrt(10**fitted)
    return expected


def _batch_moments(counts: Any, codes: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (ddof 1), ``(n_batches, n_genes)``."""
    sums = sum_over_blocks(
        partial(_sums, n_batches=len(n)), counts, codes, shape=(2 * len(n), counts.shape[1])
    )
    mean, square = sums[: len(n)] / n, sums[len(n) :]
    return mean, np.maximum(square - n * mean**2, 0) / np.maximum(n - 1, 1)


def _sums(
    counts: sp.csr_matrix, codes: np.ndarray, *, n_batches: int, cap: np.ndarray | None = None
) -> np.ndarray:
    """Sum values and their squares by batch and gene, clipped at ``cap`` where it is given."""
    n_genes = counts.shape[1]
    at = counts.indices
    if n_batches > 1:
        at = np.repeat(codes * n_genes, np.diff(counts.indptr)) + at
    values = counts.data.astype(np.float64)
    if cap is not None:
        values = np.minimum(values, cap.ravel()[at])
    size = n_batches * n_genes
    sums = [np.bincount(at, weights=w, minlength=size) for w in (values, values**2)]
    return np.concatenate(sums).reshape(2 * n_batches, n_genes)


def local_quadratic(x: np.ndarray, y: np.ndarray, *, span: float) -> np.ndarray:
    """Smooth ``y`` over ``x``: tricube-weighted quadratics of the nearest ``span``."""
    from scipy.interpolate import CubicHermiteSpline

    order = np.argsort(x, kind="stable")
    xs, ys = x[order], y[order]
    n = len(xs)
    width = min(n, max(4, int(span * n + 1e-5)))
    anchors = np.unique(xs[np.linspace(0, n - 1, min(n, _ANCHORS)).round().astype(int)])
    fits = np.array([_fit_at(at, xs, ys, width) for at in anchors])
    if len(anchors) == 1:
        return np.full(n, fits[0, 0])
    return np.asarray(CubicHermiteSpline(anchors, fits[:, 0], fits[:, 1])(x))


def _fit_at(at: float, xs: np.ndarray, ys: np.ndarray, width: int) -> tuple[float, float]:
    """Return value and slope of the local quadratic at one place."""
    low = _window_start(at, xs, width)
    dx, values = xs[low : low + width] - at, ys[low : low + width]
    reach = np.abs(dx).max()
    if reach == 0:
        return float(values.mean()), 0.0
    root = np.sqrt(np.clip(1 - (np.abs(dx) / reach) ** 3, 0, None) ** 3)
    scaled = dx / reach
    design = np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1) * root[:, None]
    value, slope, _ = np.linalg.lstsq(design, values * root, rcond=1e-9)[0]
    return float(value), float(slope / reach)


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


def moments(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (ddof 1) of each column, in float64."""
    n = np.array([[matrix.shape[0]]])
    mean, variance = _batch_moments(matrix, np.zeros(matrix.shape[0], "i8"), n)
    return mean[0], variance[0]


def _median_or_nan(ranks: np.ndarray) -> np.ndarray:
    median = np.full(ranks.shape[1], np.nan)
    seen = np.isfinite(ranks).any(axis=0)
    median[seen] = np.nanmedian(ranks[:, seen], axis=0)
    return median
