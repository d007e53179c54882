"""Intensities made comparable: normalised by pixel, logged, and reduced.

With x the intensities of a cell or pixel, s is their sum ("tic"), the median of those above 0
("median") or their root mean square ("rms"); X = log(1 + scale · x / s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.preparing import Recipe, principal_components, raw_values, settings_from
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
    raw = raw_values(adata, modality="metab", integers=False)
    if chosen.smooth and "spatial" not in adata.obsm:
        msg = f"smooth={chosen.smooth} needs coordinates in obsm['spatial']. Add them or set 0."
        raise DataError(msg)
    recipe = Recipe(
        modality="metab", distribution="cellweave-metabolomics", settings=chosen, seed=seed
    )
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


def _normalized(raw: sp.csr_matrix, chosen: MetabolomicsSettings, recipe: Recipe) -> sp.csr_matrix:
    factors = normalization_factors(raw, chosen.normalization)
    scale = chosen.scale or _DEFAULT_SCALE[chosen.normalization]
    per_row = np.divide(scale, factors, out=np.zeros_like(factors), where=factors > 0)
    values = raw.astype(np.float64)
    values.data *= np.repeat(per_row, np.diff(raw.indptr))
    if chosen.log:
        values.data = np.log1p(values.data)
    empty = int((np.diff(raw.indptr) == 0).sum())
    recipe.add(
        "normalize",
        normalization=chosen.normalization,
        scale=scale,
        log=chosen.log,
        outcome={"empty_cells": empty},
    )
    return values.astype(np.float32)


def _graph(prepared: AnnData, chosen: MetabolomicsSettings) -> sp.csr_matrix | None:
    if "spatial" not in prepared.obsm or prepared.n_obs < 3:
        return None
    return pixel_neighbours(prepared, n_neighbors=chosen.smooth or 8)


def _add_features(
    prepared: AnnData, graph: sp.csr_matrix | None, chosen: MetabolomicsSettings, recipe: Recipe
) -> None:
    values = prepared.X
    share = np.bincount(values.indices, minlength=prepared.n_vars) / max(prepared.n_obs, 1)
    if graph is not None:
        score = morans_i(values, graph)
        prepared.var["morans_i"] = score
    else:
        mean = np.asarray(values.mean(axis=0)).ravel()
        score = np.asarray(values.power(2).mean(axis=0)).ravel() - mean**2
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


def _add_components(
    prepared: AnnData,
    graph: sp.csr_matrix | None,
    chosen: MetabolomicsSettings,
    seed: int,
    recipe: Recipe,
) -> None:
    kept = prepared.var["highly_variable"].to_numpy(dtype=bool)
    used = sp.csr_matrix(prepared.X[:, kept])
    if chosen.smooth and graph is not None:
        used = smoothed(used, graph)
    values = used.toarray()
    spread = values.std(axis=0, ddof=1, dtype=np.float64)
    values -= values.mean(axis=0, dtype=np.float64).astype(np.float32)
    values /= np.where(spread > 0, spread, 1).astype(np.float32)
    np.clip(values, -chosen.clip, chosen.clip, out=values)
    scores, loadings, share = principal_components(values, chosen.n_components, seed=seed)
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
