"""Bring raw RNA counts into the prepared form: filter, normalise, choose genes, components.

Normalisation, logarithm and the component analysis are scanpy's; the choice of variable genes is
ours where scanpy would need scikit-misc (:mod:`cellweave_rna.variable_genes`), and so is scaling,
which here stays sparse (:mod:`cellweave_rna.scaling`).

Data that were read lazily (Dask arrays of CSR blocks) go through the same steps; then ``X`` and
the counts stay lazy, and memory does not grow with the cells beyond their names and components.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.preparing import (
    ExpressionValues,
    Recipe,
    is_lazy,
    keep_rows,
    map_rows,
    raw_values,
    rows_to_values,
    settings_from,
    signed_components,
    sum_over_blocks,
    without_counts,
)
from cellweave_rna.scaling import sparse_scaled
from cellweave_rna.variable_genes import variable_genes

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Prepared
    from cellweave_rna.identifiers import MappingReport

__all__ = ["RnaSettings", "prepare_rna"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RnaSettings:
    """Say how RNA is prepared.

    Parameters
    ----------
    layer
        Layer of the raw counts; ``None`` takes ``layers["counts"]``, else ``X``.
    values
        ``"counts"``; ``"normalised"`` for TPM and other divided counts; ``"log1p"`` for data that
        only exist as logarithms: they are kept as they are. Without counts genes are chosen by
        dispersion.
    names, gene_table
        Rename genes to ``"symbol"`` or ``"ensembl"`` by a GTF or table at ``gene_table``; genes
        that come to share a name are summed, and ``uns["gene_mapping"]`` says what was mapped,
        lost and merged.
    orthologues
        Table of gene pairs: rename genes to those of the other species, likewise.
    min_genes, min_counts
        Cells with less are dropped (and counted in the record).
    min_cells
        Genes seen in fewer cells are dropped.
    max_mito_percent
        Cells above are dropped; ``None`` keeps all.
    n_mads
        Cells further than this many median absolute deviations from the median of their batch, in
        log counts, log genes or mitochondrial percent (above), are dropped; ``None`` keeps all.
    doublets
        Put scrublet's score of each cell into ``obs["doublet_score"]``, batch by batch.
    max_doublet_score
        Score the cells and drop those above.
    target_sum
        Counts of every cell after normalisation; ``None`` takes the median.
    n_top_genes
        Number of highly variable genes; all when there are fewer.
    flavor
        ``"seurat_v3"`` on counts, or scanpy's ``"seurat"`` and ``"cell_ranger"`` on logs.
    batch_key
        Column of ``obs``: genes are chosen that vary within batches.
    span
        Share of genes in each local regression of ``"seurat_v3"``.
    clip
        Largest absolute scaled value that enters the components.
    n_components
        Principal components kept, at most.
    """

    layer: str | None = None
    values: ExpressionValues = "counts"
    names: Literal["symbol", "ensembl"] | None = None
    gene_table: str | None = None
    orthologues: str | None = None
    min_genes: int = 0
    min_counts: int = 0
    min_cells: int = 0
    max_mito_percent: float | None = None
    n_mads: float | None = None
    doublets: bool = False
    max_doublet_score: float | None = None
    target_sum: float | None = 1e4
    n_top_genes: int = 2000
    flavor: Literal["seurat_v3", "seurat", "cell_ranger"] = "seurat_v3"
    batch_key: str | None = None
    span: float = 0.3
    clip: float = 10.0
    n_components: int = 50

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, all at once."""
        wrong = [
            f"{name}={getattr(self, name)!r}"
            for name in ("n_top_genes", "span", "clip", "n_components")
            if getattr(self, name) <= 0
        ]
        for name in ("target_sum", "n_mads", "max_doublet_score"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                wrong.append(f"{name}={getattr(self, name)!r}")
        if (self.names is None) != (self.gene_table is None):
            msg = (
                f"Got names={self.names!r} and gene_table={self.gene_table!r} for 'rna'. Expected "
                "both: what to rename to, and the GTF or table that says how."
            )
            raise ConfigError(msg)
        if wrong:
            msg = f"Settings {', '.join(wrong)} of 'rna' must be above 0. Give positive numbers."
            raise ConfigError(msg)


def prepare_rna(adata: AnnData, settings: Mapping[str, Any] | None, *, seed: int) -> Prepared:
    """Return the prepared form of raw RNA; ``adata`` is not changed."""
    chosen = settings_from(RnaSettings, settings, name="rna")
    _check_keys(adata, chosen)
    recipe = Recipe(
        modality="rna",
        distribution="cellweave-rna",
        settings=chosen,
        seed=seed,
        libraries=("numpy", "scipy", "scikit-learn", "scanpy", "anndata"),
    )
    with_raw = _with_raw(adata, chosen)
    if is_lazy(with_raw.X):
        recipe.libraries = (*recipe.libraries, "dask")
    made = _filtered(_mapped(with_raw, chosen, recipe), chosen, recipe)
    made = _without_doublets(made, chosen, seed, recipe)
    _normalise(made, chosen, recipe)
    _choose_genes(made, chosen, recipe)
    _add_components(made, chosen, seed, recipe)
    return recipe.close(made)


def _check_keys(adata: AnnData, settings: RnaSettings) -> None:
    problems = []
    if settings.batch_key is not None and settings.batch_key not in adata.obs:
        near = closest(settings.batch_key, adata.obs.columns)
        problems.append(f"obs has no column {settings.batch_key!r}.{near} ")
        problems.append(f"Columns: {one_of(adata.obs.columns)}.")
    if settings.layer is not None and settings.layer not in adata.layers:
        near = closest(settings.layer, adata.layers)
        problems.append(f"There is no layer {settings.layer!r}.{near} ")
        problems.append(f"Layers: {one_of(adata.layers)}.")
    if problems:
        msg = f"'rna' cannot be prepared as set: {''.join(problems)}"
        raise ConfigError(msg)


def _with_raw(adata: AnnData, settings: RnaSettings) -> AnnData:
    """Make a new AnnData with float32 CSR raw values and nothing computed from them."""
    from anndata import AnnData as AnnDataClass

    source = adata
    if settings.layer is not None:
        source = AnnDataClass(adata.layers[settings.layer], obs=adata.obs, var=adata.var)
    whole = settings.values == "counts"
    counts = raw_values(
        source, modality="rna", integers=whole, lazily=True, otherwise=without_counts("rna")
    )
    made = AnnDataClass(counts, obs=adata.obs.copy(), var=adata.var.copy())
    for key, value in adata.obsm.items():
        made.obsm[key] = value.copy()
    return made


def _mapped(adata: AnnData, settings: RnaSettings, recipe: Recipe) -> AnnData:
    """Rename genes where that was asked for, and keep the report of it."""
    from cellweave_rna.identifiers import GeneTable, map_genes, read_orthologues

    reports: list[tuple[str, MappingReport]] = []
    if settings.names is not None and settings.gene_table is not None:
        genes = GeneTable.read(settings.gene_table)
        adata, report = map_genes(adata, to=settings.names, genes=genes)
        reports.append((settings.names, report))
    if settings.orthologues is not None:
        pairs = read_orthologues(settings.orthologues)
        adata, report = map_genes(adata, to="orthologue", orthologues=pairs)
        reports.append(("orthologue", report))
    for to, report in reports:
        recipe.add("map_genes", to=to, outcome=report.counts())
    if reports:
        told = {to: report.to_dict() for to, report in reports}
        adata.uns["gene_mapping"] = json.dumps(told, sort_keys=True)
    return adata


def _without_doublets(adata: AnnData, settings: RnaSettings, seed: int, recipe: Recipe) -> AnnData:
    if not settings.doublets and settings.max_doublet_score is None:
        return adata
    from cellweave_rna.quality import doublet_scores

    scores = doublet_scores(adata, adata.X, batch_key=settings.batch_key, seed=seed)
    adata.obs["doublet_score"] = scores
    dropped = np.zeros(adata.n_obs, dtype=bool)
    if settings.max_doublet_score is not None:
        dropped = scores > settings.max_doublet_score
    n_cells = adata.n_obs
    recipe.add(
        "doublets",
        max_doublet_score=settings.max_doublet_score,
        outcome={"scored": int(np.isfinite(scores).sum()), "cells_dropped": int(dropped.sum())},
    )
    if dropped.any():
        adata = _with_cells(adata, ~dropped)
        _refuse_empty(adata, n_cells, adata.n_vars)
    return adata


def _filtered(adata: AnnData, settings: RnaSettings, recipe: Recipe) -> AnnData:
    keep_cells, reasons = _cells_to_keep(adata, settings)
    n_cells, n_genes = adata.shape
    if not keep_cells.all():
        adata = _with_cells(adata, keep_cells)
    seen = sum_over_blocks(_cells_by_gene, adata.X, shape=(1, n_genes))[0]
    if (seen < settings.min_cells).any():
        adata = adata[:, seen >= settings.min_cells].copy()
    recipe.add(
        "filter",
        min_genes=settings.min_genes,
        min_counts=settings.min_counts,
        min_cells=settings.min_cells,
        max_mito_percent=settings.max_mito_percent,
        n_mads=settings.n_mads,
        outcome={
            "cells": adata.n_obs,
            "cells_dropped": n_cells - adata.n_obs,
            "genes": adata.n_vars,
            "genes_dropped": n_genes - adata.n_vars,
            **reasons,
        },
    )
    _refuse_empty(adata, n_cells, n_genes)
    return adata


def _with_cells(adata: AnnData, keep: np.ndarray) -> AnnData:
    """Return the marked cells; a lazy matrix keeps its blocks as they lie in the file."""
    from anndata import AnnData as AnnDataClass

    made = AnnDataClass(keep_rows(adata.X, keep), obs=adata.obs[keep].copy(), var=adata.var)
    made.uns.update(adata.uns)
    for key, value in adata.obsm.items():
        made.obsm[key] = value[keep]
    return made


def _cells_by_gene(counts: sp.csr_matrix) -> np.ndarray:
    return np.bincount(counts.indices, minlength=counts.shape[1])[None]


def _cells_to_keep(adata: AnnData, settings: RnaSettings) -> tuple[np.ndarray, dict[str, int]]:
    from cellweave_rna.quality import batches_of, outliers_of, sums_of_cells

    sums = sums_of_cells(adata, adata.X)
    too_few = sums["n_genes"] < settings.min_genes
    too_small = sums["n_counts"] < settings.min_counts
    too_mito = np.zeros(adata.n_obs, dtype=bool)
    if settings.max_mito_percent is not None:
        too_mito = sums["mito_percent"] > settings.max_mito_percent
    outlying = np.zeros(adata.n_obs, dtype=bool)
    if settings.n_mads is not None:
        outlying = outliers_of(sums, batches_of(adata, settings.batch_key), settings.n_mads)
    reasons = {
        "too_few_genes": int(too_few.sum()),
        "too_few_counts": int(too_small.sum()),
        "too_mitochondrial": int(too_mito.sum()),
        "outliers": int(outlying.sum()),
    }
    return ~(too_few | too_small | too_mito | outlying), reasons


def _refuse_empty(adata: AnnData, n_cells: int, n_genes: int) -> None:
    if 0 in adata.shape:
        msg = (
            f"Filtering 'rna' left {adata.n_obs} of {n_cells} cells and {adata.n_vars} of "
            f"{n_genes} genes. Lower min_genes, min_counts, min_cells or raise max_mito_percent."
        )
        raise DataError(msg)
    if min(adata.shape) < 2:
        msg = (
            f"'rna' holds {adata.n_obs} cells and {adata.n_vars} genes, which have no principal "
            "component. Give two cells and two genes, or more."
        )
        raise DataError(msg)
    empty = rows_to_values(_lengths, adata.X, width=1).ravel() == 0
    if empty.any():
        first = adata.obs_names[int(np.flatnonzero(empty)[0])]
        msg = (
            f"'rna' holds {int(empty.sum())} cells without any count, first {first!r}. They have "
            "no place in a normalised space. Drop them with the setting min_genes=1."
        )
        raise DataError(msg)


def _lengths(counts: sp.csr_matrix) -> np.ndarray:
    return np.diff(counts.indptr)[:, None].astype(np.float64)


def _largest(values: sp.csr_matrix) -> np.ndarray:
    return np.asarray(values.max(axis=1).todense(), dtype=np.float64)


def _normalise(adata: AnnData, settings: RnaSettings, recipe: Recipe) -> None:
    import scanpy as sc

    adata.layers["counts"] = adata.X.copy()
    if settings.values == "log1p":
        largest = float(rows_to_values(_largest, adata.X, width=1).max())
        recipe.add("keep_log1p", outcome={"largest": largest})
        return
    sc.pp.normalize_total(adata, target_sum=settings.target_sum)
    sc.pp.log1p(adata)
    del adata.uns["log1p"]
    adata.X = map_rows(_as_float32, adata.X)
    recipe.add("normalize_total", target_sum=settings.target_sum)
    recipe.add("log1p")


def _as_float32(values: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix(values, dtype=np.float32)


def _choose_genes(adata: AnnData, settings: RnaSettings, recipe: Recipe) -> None:
    flavor: str = settings.flavor
    if settings.values != "counts" and flavor == "seurat_v3":
        flavor = "seurat"  # standardised variance is defined on counts
    if adata.n_vars <= settings.n_top_genes:
        adata.var["highly_variable"] = True
        flavor = "all"
    elif flavor == "seurat_v3":
        _choose_by_variance(adata, settings)
    else:
        _choose_by_dispersion(adata, settings, flavor)
    recipe.add(
        "highly_variable_genes",
        flavor=flavor,
        n_top_genes=settings.n_top_genes,
        batch_key=settings.batch_key,
        span=settings.span,
        outcome={"highly_variable": int(adata.var["highly_variable"].sum())},
    )


def _choose_by_variance(adata: AnnData, settings: RnaSettings) -> None:
    batches = None
    if settings.batch_key is not None:
        batches = adata.obs[settings.batch_key].astype(str).to_numpy()
    table = variable_genes(
        adata.layers["counts"], batches=batches, n_top=settings.n_top_genes, span=settings.span
    )
    adata.var["highly_variable"] = table["highly_variable"].to_numpy()
    adata.var["standardised_variance"] = table["standardised_variance"].to_numpy()
    adata.var["highly_variable_rank"] = table["rank"].to_numpy()


def _choose_by_dispersion(adata: AnnData, settings: RnaSettings, flavor: str) -> None:
    import scanpy as sc

    table = sc.pp.highly_variable_genes(
        adata,
        flavor=flavor,
        n_top_genes=settings.n_top_genes,
        batch_key=settings.batch_key,
        inplace=False,
    )
    if len(table) == adata.n_vars and table.index.equals(adata.var_names):
        chosen = table["highly_variable"]
    else:
        chosen = table["highly_variable"].reset_index(drop=True)
    adata.var["highly_variable"] = np.asarray(chosen, dtype=bool)


def _add_components(adata: AnnData, settings: RnaSettings, seed: int, recipe: Recipe) -> None:
    import scanpy as sc

    chosen = adata.var["highly_variable"].to_numpy()
    scaled, _ = sparse_scaled(map_rows(lambda x: x[:, chosen], adata.X), clip=settings.clip)
    n = max(1, min(settings.n_components, scaled.shape[0] - 1, scaled.shape[1] - 1))
    lazy = is_lazy(scaled)
    scores, loadings, ratio, _ = sc.pp.pca(
        scaled,
        n_comps=n,
        svd_solver="covariance_eigh" if lazy else _solver(*scaled.shape),
        random_state=0 if lazy else seed,  # nothing is random in the covariance
        return_info=True,
        dtype="float64",
    )
    scores, loadings = signed_components(np.asarray(scores), loadings)
    adata.obsm["X_pca"] = np.ascontiguousarray(scores, dtype=np.float32)
    adata.varm["PCs"] = np.zeros((adata.n_vars, n), dtype=np.float32)
    adata.varm["PCs"][chosen] = loadings.T
    recipe.add("scale", clip=settings.clip, outcome={"genes": int(chosen.sum())})
    recipe.add("pca", n_components=n, outcome={"variance_ratio": float(np.sum(ratio))})


def _solver(n_cells: int, n_genes: int) -> str:
    """Choose: Lanczos from a seeded start, unless few genes or very many cells favour one pass."""
    return "covariance_eigh" if n_genes <= 500 or n_cells > 200_000 else "arpack"
