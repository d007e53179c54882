"""Links learnt from paired cells: features whose values rise and fall together.

With both sides log-normalised per cell and standardised per feature, the Pearson correlations of
all pairs are one product, ``C = Zᵀ_source Z_target / n``; it is formed in blocks of source
features and thinned to the strongest links of each before the next block begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.kernels.columns import column_means
from cellweave.linking.assemble import build_links, take_parameters
from cellweave.preparing.raw import raw_values

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["link_by_correlation"]

_DEFAULTS = {"threshold": 0.1, "max_links": 20, "min_cells": 30}
_BLOCK_BYTES = 256 << 20


def link_by_correlation(request: LinkRequest) -> FeatureLinks:
    """Link each source feature to its most correlated target features over paired cells.

    Parameters (of the request): ``threshold``, the smallest absolute correlation;
    ``max_links``, the most links of one source feature; ``min_cells``, the fewest paired cells.
    Values are taken from ``X`` when the data are prepared, else log-normalised here.
    """
    settings = take_parameters(request, _DEFAULTS, what="correlation")
    _check_settings(settings)
    left, right = _paired_rows(request, int(settings["min_cells"]))
    source = _log_values(request.source_data)[left]
    target = _log_values(request.target_data)[right]
    rows, cols, values = _strongest(
        source, target, float(settings["threshold"]), int(settings["max_links"])
    )
    why = f"no |correlation| of {settings['threshold']:g} or more over {len(left)} paired cells"
    return build_links(
        request,
        rows=rows,
        cols=cols,
        weights=np.clip(np.abs(values), np.finfo(np.float32).tiny, 1.0),
        signs=np.where(values < 0, -1, 1),
        evidence="correlation",
        missing_source=why,
        missing_target=why,
        component="correlation",
        details={**settings, "paired_cells": len(left)},
    )


def _check_settings(settings: dict[str, float]) -> None:
    if not 0 < settings["threshold"] <= 1 or settings["max_links"] < 1:
        msg = (
            f"Got threshold={settings['threshold']!r} and max_links={settings['max_links']!r}. "
            "Expected 0 < threshold <= 1 and max_links >= 1."
        )
        raise ConfigError(msg)


def _paired_rows(request: LinkRequest, min_cells: int) -> tuple[np.ndarray, np.ndarray]:
    at = request.target_data.obs_names.get_indexer(request.source_data.obs_names)
    left = np.flatnonzero(at >= 0)
    if len(left) < min_cells:
        msg = (
            f"{request.source!r} and {request.target!r} share {len(left)} cell names; links by "
            f"correlation need {min_cells} paired cells. Give paired data, or another method."
        )
        raise DataError(msg)
    return left, at[left]


def _log_values(adata: AnnData) -> sp.csr_matrix:
    if "preparation" in adata.uns:
        return sp.csr_matrix(adata.X, dtype=np.float32)
    matrix = raw_values(adata, modality="data to correlate", integers=False).astype(np.float64)
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.divide(1e4, totals, out=np.zeros_like(totals), where=totals > 0)
    matrix.data = np.log1p(matrix.data * np.repeat(scale, np.diff(matrix.indptr)))
    return matrix.astype(np.float32)


def _strongest(
    source: sp.csr_matrix, target: sp.csr_matrix, threshold: float, max_links: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the links of each source feature, block by block; sparse products, no dense cells."""
    n_cells = source.shape[0]
    columns = source.tocsc()
    mean_s, spread_s = _moments(source)
    mean_t, spread_t = _moments(target)
    step = max(1, _BLOCK_BYTES // (8 * max(target.shape[1], 1)))
    found = []
    for begin in range(0, source.shape[1], step):
        block = slice(begin, min(begin + step, source.shape[1]))
        cross = np.asarray((columns[:, block].T @ target).todense(), dtype=np.float64) / n_cells
        cross -= np.outer(mean_s[block], mean_t)
        with np.errstate(divide="ignore", invalid="ignore"):
            cross /= np.outer(spread_s[block], spread_t)
        cross[~np.isfinite(cross)] = 0.0
        rows, cols, values = _top(cross, threshold, max_links)
        found.append((rows + begin, cols, values))
    merged = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return merged[0], merged[1], merged[2]


def _moments(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    mean = column_means(matrix)
    square = column_means(matrix.power(2))
    variance = square - mean**2
    # What is left of a constant by rounding is not variation.
    return mean, np.sqrt(np.where(variance > 1e-6 * square, variance, 0))


def _top(
    values: np.ndarray, threshold: float, max_links: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    strength = np.abs(values)
    k = min(max_links, values.shape[1])
    best = np.argpartition(-strength, k - 1, axis=1)[:, :k]
    rows = np.repeat(np.arange(len(values)), k)
    cols = best.ravel()
    keep = strength[rows, cols] >= threshold
    return rows[keep], cols[keep], values[rows[keep], cols[keep]]
