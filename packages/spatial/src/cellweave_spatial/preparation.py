"""Spatial data prepared as RNA is, with coordinates and neighbours beside.

Counts to 1e4 a cell, log(1 + x), genes that vary, standardised and clipped, components; then the
neighbour graph in the tissue. A panel of a few hundred genes is used whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError
from cellweave.preparing import (
    ExpressionValues,
    Recipe,
    is_lazy,
    map_rows,
    principal_components,
    raw_values,
    rows_to_values,
    scaled_components,
    settings_from,
    sum_over_blocks,
    without_counts,
)
from cellweave_spatial.coordinates import coordinates_of
from cellweave_spatial.graphs import GraphKind, spatial_graph
from cellweave_spatial.technology import technology_label

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["SpatialSettings", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialSettings:
    """Settings of the spatial preparation.

    Parameters
    ----------
    values
        ``"counts"``; ``"normalised"`` for counts divided by something (such as a cell's volume);
        ``"log1p"`` for data that only exist as logarithms: they are kept as they are.
    n_top_genes
        How many varying genes to model; all when there are no more.
    target_sum
        Counts every cell is scaled to.
    n_components
        Components of the PCA; fewer when the panel has fewer genes.
    clip
        Largest absolute standardised value before the PCA.
    graph
        ``"knn"``, ``"radius"`` or ``"delaunay"``.
    n_neighbors, radius
        Of the graph.
    library_key
        ``obs`` column that tells slides apart.
    technology
        Name of the technology, kept in ``obs["technology"]`` under one spelling.
    """

    values: ExpressionValues = "counts"
    n_top_genes: int = 2000
    target_sum: float = 1e4
    n_components: int = 50
    clip: float = 10.0
    graph: GraphKind = "knn"
    n_neighbors: int = 6
    radius: float | None = None
    library_key: str | None = None
    technology: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing and technologies nobody knows."""
        if min(self.n_top_genes, self.n_components) < 1 or min(self.target_sum, self.clip) <= 0:
            msg = f"Got {self}. Expected counts of 1 or more, and target_sum and clip above 0."
            raise ConfigError(msg)
        if self.technology is not None:
            technology_label(self.technology)


def prepare(
    adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
) -> Prepared:
    """Return log-normalised values, components, float32 coordinates and the neighbour graph."""
    chosen = settings_from(SpatialSettings, settings, name="spatial")
    counts = raw_values(
        adata,
        modality="spatial",
        integers=chosen.values == "counts",
        lazily=True,
        otherwise=without_counts("spatial"),
    )
    places = coordinates_of(adata)
    graph = spatial_graph(
        adata,
        kind=chosen.graph,
        n_neighbors=chosen.n_neighbors,
        radius=chosen.radius,
        library_key=chosen.library_key,
    )
    recipe = Recipe(
        modality="spatial",
        distribution="cellweave-spatial",
        settings=chosen,
        seed=seed,
        libraries=("numpy", "scipy", "scanpy"),
    )
    prepared = adata.copy()
    prepared.layers["counts"] = counts
    prepared.obsm["spatial"] = places
    prepared.X = _log_normalized(counts, chosen, recipe)
    _add_variable_genes(prepared, chosen, recipe)
    _add_components(prepared, chosen, seed, recipe)
    graph.write(prepared)
    degree = np.diff(graph.connectivities.indptr)
    recipe.add(
        "spatial_graph",
        **graph.parameters,
        outcome={"edges": len(graph.connectivities.data) // 2, "alone": int((degree == 0).sum())},
    )
    if chosen.technology is not None:
        import pandas as pd

        name = technology_label(chosen.technology).name
        prepared.obs["technology"] = pd.Categorical([name] * prepared.n_obs)
    return recipe.close(prepared)


def _log_normalized(counts: Any, chosen: SpatialSettings, recipe: Recipe) -> Any:
    if chosen.values == "log1p":
        recipe.add("keep_log1p")
        return counts.copy()
    totals = rows_to_values(_row_sums, counts, width=1).ravel()
    recipe.add(
        "normalize",
        target_sum=chosen.target_sum,
        outcome={"empty_cells": int((totals == 0).sum())},
    )
    scale = np.divide(chosen.target_sum, totals, out=np.zeros_like(totals), where=totals > 0)
    return map_rows(_log_scaled, counts, scale)


def _row_sums(counts: sp.csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).reshape(-1, 1)


def _log_scaled(counts: sp.csr_matrix, scale: np.ndarray) -> sp.csr_matrix:
    values = counts.copy()
    values.data = np.log1p(values.data * np.repeat(scale, np.diff(counts.indptr)))
    return values.astype(np.float32)


def _cells_by_gene(values: sp.csr_matrix) -> np.ndarray:
    return np.bincount(values.indices, minlength=values.shape[1])[None]


def _add_variable_genes(prepared: AnnData, chosen: SpatialSettings, recipe: Recipe) -> None:
    n_cells = sum_over_blocks(_cells_by_gene, prepared.X, shape=(1, prepared.n_vars))[0]
    n_cells = n_cells.astype(np.int64)
    if prepared.n_vars <= chosen.n_top_genes:
        picked = n_cells > 0
        how = "all genes that were seen"
    else:
        import scanpy as sc
        from anndata import AnnData as AnnDataClass

        plain = AnnDataClass(X=prepared.X)
        table = sc.pp.highly_variable_genes(
            plain, n_top_genes=chosen.n_top_genes, flavor="seurat", inplace=False
        )
        picked = table["highly_variable"].to_numpy(dtype=bool)
        how = "dispersion of log values (scanpy, seurat)"
    prepared.var["highly_variable"] = picked
    prepared.var["n_cells"] = n_cells
    recipe.add("variable_genes", how=how, outcome={"kept": int(picked.sum())})


def _add_components(prepared: AnnData, chosen: SpatialSettings, seed: int, recipe: Recipe) -> None:
    kept = prepared.var["highly_variable"].to_numpy(dtype=bool)
    used = map_rows(lambda x: x[:, kept], prepared.X)
    if is_lazy(used):
        scores, loadings, share = scaled_components(used, chosen.n_components, clip=chosen.clip)
    else:
        values = _scaled(used, chosen.clip)
        scores, loadings, share = principal_components(values, chosen.n_components, seed=seed)
    prepared.obsm["X_pca"] = scores
    full = np.zeros((prepared.n_vars, loadings.shape[1]), dtype=np.float32)
    full[kept] = loadings
    prepared.varm["PCs"] = full
    recipe.add(
        "pca",
        n_components=scores.shape[1],
        clip=chosen.clip,
        outcome={"variance_explained": round(float(share.sum()), 4)},
    )


def _scaled(matrix: sp.csr_matrix, clip: float) -> np.ndarray:
    """Return standardised, clipped columns; dense, of the chosen genes alone."""
    values = matrix.toarray()
    spread = values.std(axis=0, ddof=1, dtype=np.float64)
    values -= values.mean(axis=0, dtype=np.float64).astype(np.float32)
    values /= np.where(spread > 0, spread, 1).astype(np.float32)
    return np.clip(values, -clip, clip, out=values)
