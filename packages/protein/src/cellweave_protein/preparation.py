"""Centred log ratios and components of antibody counts.

With x the counts of a cell (or, ``axis="features"``, of a protein) over its n entries::

    clr(x)_j = log(1 + x_j) − mean_j log(1 + x_j)             ("cells", "features")
    clr(x)_j = log(1 + x_j / exp(Σ_j log(1 + x_j) / n))       ("seurat")

Counts that were read lazily go through the same steps, block by block, and stay lazy.
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
    settings_from,
    sum_over_blocks,
)
from cellweave_protein.markers import is_hashtag, is_isotype, match_markers

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["ProteinSettings", "clr", "prepare"]

Normalization = Literal["clr_cells", "clr_features", "clr_seurat", "dsb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProteinSettings:
    """Settings of the protein preparation.

    Parameters
    ----------
    normalization
        ``"clr_cells"`` (each cell centred), ``"clr_features"`` (each protein centred),
        ``"clr_seurat"`` (ratio to a cell's geometric mean, never negative) or ``"dsb"`` (step 2
        of DSB on the cells alone; with empty droplets call ``dsb`` yourself).
    n_components
        Components of the PCA; fewer when there are fewer proteins.
    keep_controls
        Whether isotype controls and sample tags may enter the PCA and ``highly_variable``.
    """

    normalization: Normalization = "clr_cells"
    n_components: int = 50
    keep_controls: bool = False

    def __post_init__(self) -> None:
        """Refuse a count of components that means nothing."""
        if self.n_components < 1:
            msg = f"Got n_components={self.n_components!r}. Expected 1 or more."
            raise ConfigError(msg)


def prepare(
    adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
) -> Prepared:
    """Return normalised values in ``X``, components in ``obsm["X_pca"]``, markers in ``var``."""
    chosen = settings_from(ProteinSettings, settings, name="prot")
    counts = raw_values(adata, modality="prot", lazily=True)
    recipe = Recipe(modality="prot", distribution="cellweave-protein", settings=chosen, seed=seed)
    if is_lazy(counts):
        recipe.libraries = (*recipe.libraries, "dask")
    prepared = adata.copy()
    prepared.layers["counts"] = counts
    _add_markers(prepared, recipe)
    kept = _kept_features(prepared, chosen)
    prepared.X = _normalized(counts, prepared, chosen, kept)
    empty = int((rows_to_values(_lengths, counts, width=1) == 0).sum())
    recipe.add("normalize", normalization=chosen.normalization, outcome={"empty_cells": empty})
    _add_components(prepared, kept, chosen, seed, recipe)
    return recipe.close(prepared)


def clr(counts: Any, *, axis: Literal["cells", "features", "seurat"] = "cells") -> np.ndarray:
    """Return centred log ratios of dense or sparse counts, dense: a panel has few proteins."""
    values: Any = counts
    if sp.issparse(counts):
        values = values.toarray()
    logs = np.log1p(np.asarray(values, dtype=np.float64))
    if axis == "seurat":
        ratio = np.expm1(logs) / np.exp(logs.mean(axis=1, keepdims=True))
        return np.log1p(ratio).astype(np.float32)
    centred = logs - logs.mean(axis=1 if axis == "cells" else 0, keepdims=True)
    return centred.astype(np.float32)


def _normalized(counts: Any, prepared: AnnData, chosen: ProteinSettings, kept: np.ndarray) -> Any:
    """Return dense normalised values; of counts that were read lazily, a Dask array of them."""
    if chosen.normalization == "dsb":
        from cellweave_protein.background import without_technical_component

        controls = prepared.var["is_isotype"].to_numpy(dtype=bool)
        return without_technical_component(counts, controls)
    if chosen.normalization == "clr_features":
        sums = sum_over_blocks(_log_sums, counts, shape=(1, counts.shape[1]))[0]
        return map_rows(partial(_centred, centre=sums / max(counts.shape[0], 1)), counts)
    seurat = chosen.normalization == "clr_seurat"
    return map_rows(partial(_clr_of_cells, kept=kept, seurat=seurat), counts)


def _clr_of_cells(counts: sp.csr_matrix, *, kept: np.ndarray, seurat: bool) -> np.ndarray:
    """Centre each cell; its mean is that of its markers: controls and tags do not enter it."""
    values = counts.toarray()
    if kept.all():
        return clr(values, axis="seurat" if seurat else "cells")
    logs = np.log1p(values.astype(np.float64))
    mean = logs[:, kept].mean(axis=1, keepdims=True)
    if seurat:
        return np.log1p(values / np.exp(mean)).astype(np.float32)
    return (logs - mean).astype(np.float32)


def _log_sums(counts: sp.csr_matrix) -> np.ndarray:
    logs = np.log1p(counts.data.astype(np.float64))
    return np.bincount(counts.indices, logs, counts.shape[1])[None]


def _centred(counts: sp.csr_matrix, *, centre: np.ndarray) -> np.ndarray:
    return (np.log1p(counts.toarray().astype(np.float64)) - centre).astype(np.float32)


def _lengths(counts: sp.csr_matrix) -> np.ndarray:
    return np.diff(counts.indptr)[:, None].astype(np.float64)


def _add_markers(prepared: AnnData, recipe: Recipe) -> None:
    names = [str(n) for n in prepared.var_names]
    report = match_markers(names)
    prepared.var["marker"] = report["marker"].to_numpy(dtype=object)
    prepared.var["genes"] = report["genes"].to_numpy(dtype=object)
    prepared.var["is_isotype"] = [is_isotype(n) for n in names]
    prepared.var["is_hashtag"] = [is_hashtag(n) for n in names]
    unmatched = [n for n, reason in zip(names, report["reason"]) if reason]
    recipe.add("markers", outcome={"matched": len(names) - len(unmatched), "unmatched": unmatched})


def _kept_features(prepared: AnnData, chosen: ProteinSettings) -> np.ndarray:
    control = (prepared.var["is_isotype"] | prepared.var["is_hashtag"]).to_numpy(dtype=bool)
    kept = np.ones(len(control), dtype=bool) if chosen.keep_controls else ~control
    if not kept.any():
        msg = (
            f"All {len(control)} features of 'prot' are controls or sample tags "
            f"({prepared.var_names[0]!r} …). Give the markers too, or set keep_controls=True."
        )
        raise DataError(msg)
    prepared.var["highly_variable"] = kept
    return kept


def _add_components(
    prepared: AnnData, kept: np.ndarray, chosen: ProteinSettings, seed: int, recipe: Recipe
) -> None:
    values: Any = prepared.X
    values = values[:, kept]
    scores, loadings, share = principal_components(values, chosen.n_components, seed=seed)
    prepared.obsm["X_pca"] = scores
    full = np.zeros((prepared.n_vars, loadings.shape[1]), dtype=np.float32)
    full[kept] = loadings
    prepared.varm["PCs"] = full
    recipe.add(
        "pca",
        n_components=scores.shape[1],
        features=int(kept.sum()),
        outcome={"variance_explained": round(float(share.sum()), 4)},
    )
