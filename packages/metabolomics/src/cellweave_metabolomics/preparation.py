"""Intensities made comparable: normalised by pixel, logged, and reduced.

With x the intensities of a cell or pixel, s is their sum ("tic"), the median of those above 0
("median") or their root mean square ("rms"); X = log(1 + scale · x / s).

Intensities that were read lazily go through the same steps, block by block, and stay lazy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.preparing import (
    Recipe,
    is_lazy,
    map_rows,
    principal_components,
    raw_values,
    rows_to_values,
    scaled_components,
    settings_from,
    sum_over_blocks,
)
from cellweave_metabolomics.masses import masses_of, share_of_masses
from cellweave_metabolomics.space import morans_i, pixel_neighbours, smoothed

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["MetabolomicsSettings", "normalization_factors", "prepare"]

Normalization = Literal["tic", "median", "rms", "none"]
_DEFAULT_SCALE = {"tic": 1e4, "median": 1.0, "rms": 1.0, "none": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetabolomicsSettings:
    """Settings of the metabolomics preparation.

    Parameters
    ----------
    normalization
        ``"tic"``, ``"median"``, ``"rms"`` or ``"none"``.
    scale
        Factor after normalisation; 1e4 for ``"tic"`` and 1 for the others when not given.
    log
        Whether to take log(1 + x).
    smooth
        Nearest pixels to average with before the components (0: none). ``X`` is not smoothed.
    n_top_features
        Features to model: the most spatially coherent where there are coordinates (Moran's I), the
        most varying elsewhere; all when there are no more.
    min_share
        A feature seen in a smaller share of cells is not ``highly_variable``.
    n_components
        Components of the PCA.
    clip
        Largest absolute standardised value before the PCA.
    """

    normalization: Normalization = "tic"
    scale: float | None = None
    log: bool = True
    smooth: int = 0
    n_top_features: int = 2000
    min_share: float = 0.0
    n_components: int = 50
    clip: float = 10.0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        bad = min(self.n_top_features, self.n_components) < 1 or self.clip <= 0 or self.smooth < 0
        if bad or not 0 <= self.min_share <= 1 or (self.scale is not None and self.scale <= 0):
            msg = (
                f"Got {self}. Expected counts of 1 or more, clip and scale above 0, smooth >= 0 "
                "and min_share from 0 to 1."
            )
            raise ConfigError(msg)


def prepare(
    adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
) -> Prepared:
    """Return normalised log intensities in ``X`` and components in ``obsm["X_pca"]``."""
    chosen = settings_from(MetabolomicsSettings, settings, name="metab")
    raw = raw_values(adata, modality="metab", integers=False, lazily=True)
    if chosen.smooth and "spatial" not in adata.obsm:
        msg = f"smooth={chosen.smooth} needs coordinates in obsm['spatial']. Add them or set 0."
        raise DataError(msg)
    recipe = Recipe(
        modality="metab", distribution="cellweave-metabolomics", settings=chosen, seed=seed
    )
    if is_lazy(raw):
        recipe.libraries = (*recipe.libraries, "dask")
    prepared = adata.copy()
    prepared.layers["counts"] = raw
    if share_of_masses(adata.var) == 1:
        prepared.var["mz"] = masses_of(adata.var)
    prepared.X = _normalized(raw, chosen, recipe)
    graph = _graph(prepared, chosen)
    _add_features(prepared, graph, chosen, recipe)
    _add_components(prepared, graph, chosen, seed, recipe)
    return recipe.close(prepared)


def normalization_factors(raw: sp.csr_matrix, kind: Normalization) -> np.ndarray:
    """Return what each row is divided by; 0 for an empty row."""
    if kind == "none":
        return np.ones(raw.shape[0])
    if kind == "tic":
        return np.asarray(raw.sum(axis=1, dtype=np.float64)).ravel()
    if kind == "rms":
        square = np.asarray(raw.power(2).sum(axis=1, dtype=np.float64)).ravel()
        return np.sqrt(square / raw.shape[1])
    return _row_medians(raw)


def _row_medians(raw: sp.csr_matrix) -> np.ndarray:
    """Return the median of the stored values of each row, by one sort of all."""
    lengths = np.diff(raw.indptr)
    rows = np.repeat(np.arange(raw.shape[0]), lengths)
    values = raw.data[np.lexsort((raw.data, rows))].astype(np.float64)
    medians = np.zeros(raw.shape[0])
    full = lengths > 0
    low = raw.indptr[:-1][full] + (lengths[full] - 1) // 2
    high = raw.indptr[:-1][full] + lengths[full] // 2
    medians[full] = (values[low] + values[high]) / 2
    return medians


def _normalized(raw: Any, chosen: MetabolomicsSettings, recipe: Recipe) -> Any:
    scale = chosen.scale or _DEFAULT_SCALE[chosen.normalization]
    values = map_rows(
        partial(_normalized_rows, kind=chosen.normalization, scale=scale, log=chosen.log), raw
    )
    recipe.add(
        "normalize",
        normalization=chosen.normalization,
        scale=scale,
        log=chosen.log,
        outcome={"empty_cells": int((rows_to_values(_lengths, raw, width=1) == 0).sum())},
    )
    return values


def _normalized_rows(
    raw: sp.csr_matrix, *, kind: Normalization, scale: float, log: bool
) -> sp.csr_matrix:
    factors = normalization_factors(raw, kind)
    per_row = np.divide(scale, factors, out=np.zeros_like(factors), where=factors > 0)
    values = raw.astype(np.float64)
    values.data *= np.repeat(per_row, np.diff(raw.indptr))
    if log:
        values.data = np.log1p(values.data)
    return values.astype(np.float32)


def _lengths(raw: sp.csr_matrix) -> np.ndarray:
    return np.diff(raw.indptr)[:, None].astype(np.float64)


def _graph(prepared: AnnData, chosen: MetabolomicsSettings) -> sp.csr_matrix | None:
    if "spatial" not in prepared.obsm or prepared.n_obs < 3:
        return None
    return pixel_neighbours(prepared, n_neighbors=chosen.smooth or 8)


def _add_features(
    prepared: AnnData, graph: sp.csr_matrix | None, chosen: MetabolomicsSettings, recipe: Recipe
) -> None:
    values = prepared.X
    n, shape = max(prepared.n_obs, 1), (3, prepared.n_vars)
    share, mean, square = sum_over_blocks(_sums_of_columns, values, shape=shape) / n
    if graph is not None:
        score = morans_i(values, graph)
        prepared.var["morans_i"] = score
    else:
        score = square - mean**2
    allowed = (share >= chosen.min_share) & (share > 0)
    if not allowed.any():
        msg = (
            f"No feature is seen in a share of {chosen.min_share} of the cells (the largest is "
            f"{share.max():.3f}). Lower min_share."
        )
        raise DataError(msg)
    order = np.argsort(np.where(allowed, -score, np.inf), kind="stable")
    picked = np.zeros(prepared.n_vars, dtype=bool)
    picked[order[: chosen.n_top_features]] = True
    prepared.var["highly_variable"] = picked & allowed
    by = "variance" if graph is None else "morans_i"
    recipe.add("features", by=by, outcome={"kept": int((picked & allowed).sum())})


def _sums_of_columns(values: sp.csr_matrix) -> np.ndarray:
    """Count the entries of each column, and sum them and their squares."""
    exact, width = values.data.astype(np.float64), values.shape[1]
    weights = (np.ones_like(exact), exact, exact**2)
    return np.stack([np.bincount(values.indices, w, width) for w in weights])


def _add_components(
    prepared: AnnData,
    graph: sp.csr_matrix | None,
    chosen: MetabolomicsSettings,
    seed: int,
    recipe: Recipe,
) -> None:
    kept = prepared.var["highly_variable"].to_numpy(dtype=bool)
    used = map_rows(lambda block: block[:, kept], prepared.X)
    if chosen.smooth and graph is not None:
        used = smoothed(used, graph)
    if is_lazy(used):
        found = scaled_components(used, chosen.n_components, clip=chosen.clip)
    else:
        values = _standardized(used.toarray(), chosen.clip)
        found = principal_components(values, chosen.n_components, seed=seed)
    scores, loadings, share = found
    prepared.obsm["X_pca"] = scores
    full = np.zeros((prepared.n_vars, loadings.shape[1]), dtype=np.float32)
    full[kept] = loadings
    prepared.varm["PCs"] = full
    recipe.add(
        "pca",
        n_components=scores.shape[1],
        smooth=chosen.smooth,
        outcome={"variance_explained": round(float(share.sum()), 4)},
    )


def _standardized(values: np.ndarray, clip: float) -> np.ndarray:
    """Standardise and clip columns, in place."""
    spread = values.std(axis=0, ddof=1, dtype=np.float64)
    values -= values.mean(axis=0, dtype=np.float64).astype(np.float32)
    values /= np.where(spread > 0, spread, 1).astype(np.float32)
    np.clip(values, -clip, clip, out=values)
    return values
