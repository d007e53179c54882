"""TF-IDF and latent semantic indexing of peak counts.

With x the counts, the default ("glue", Cao & Gao 2022) is::

    t = x_ij / Σ_j x_ij · n / Σ_i x_ij      rows then scaled to sum 1, then log(1 + 1e4 t)
    T ≈ U S Vᵀ                               randomized, U kept without S
    z = (U − row mean) / row sd (ddof 1)     each cell across its components
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.linking import region_columns
from cellweave.preparing import (
    Recipe,
    is_lazy,
    map_rows,
    raw_values,
    rows_to_values,
    settings_from,
    signed_components,
    standardized,
    sum_over_blocks,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["AtacSettings", "lsi", "prepare", "tf_idf"]

TfIdf = Literal["glue", "muon", "signac", "cusanovich"]
Scaling = Literal["cells", "components"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtacSettings:
    """Settings of the ATAC preparation.

    Parameters
    ----------
    tf_idf
        ``"glue"``, ``"muon"`` (log tf times log idf), ``"signac"`` (log of tf·idf·1e4) or
        ``"cusanovich"`` (tf times log idf).
    n_components
        Components of the LSI; fewer when the data have fewer. The authors of GLUE take 100, for
        cells of thousands of fragments; the sparser the cells, the more of them are noise.
    scaling
        ``"cells"``: z-score each cell across components (singular values unused);
        ``"components"``: z-score each component across cells, as muon and Signac do.
    drop_depth
        Drop the first component when its correlation with log depth is 0.5 or more. Only for
        ``scaling="components"``: row scaling has removed depth already.
    binarize
        Count a peak as open or not.
    min_cells
        A peak open in fewer cells is not ``highly_variable``.
    n_iter
        Power iterations of the randomized decomposition.
    fragments
        Fragments of the same cells: their number, nucleosome signal and share in peaks (FRiP) of
        each cell are put into ``obs``.
    gene_table
        With ``fragments``, GTF or coordinate table for the enrichment at starts of transcription.
    """

    tf_idf: TfIdf = "glue"
    n_components: int = 50
    scaling: Scaling = "cells"
    drop_depth: bool = False
    binarize: bool = False
    min_cells: int = 1
    n_iter: int = 15
    fragments: str | None = None
    gene_table: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing and combinations that cancel each other."""
        if self.n_components < 2 or self.n_iter < 0 or self.min_cells < 0:
            msg = f"Got {self}. Expected n_components >= 2, n_iter >= 0 and min_cells >= 0."
            raise ConfigError(msg)
        if self.gene_table is not None and self.fragments is None:
            msg = f"gene_table={self.gene_table!r} needs fragments. Give both, or neither."
            raise ConfigError(msg)
        if self.drop_depth and self.scaling == "cells":
            msg = "drop_depth=True needs scaling='components'. Set it, or leave drop_depth out."
            raise ConfigError(msg)


def prepare(
    adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
) -> Prepared:
    """Return TF-IDF in ``X``, LSI in ``obsm["X_lsi"]`` and BED columns in ``var``."""
    chosen = settings_from(AtacSettings, settings, name="atac")
    counts = raw_values(adata, modality="atac", lazily=True)
    if min(counts.shape) < 3:
        msg = f"ATAC data of shape {counts.shape} cannot be decomposed. Give 3 cells and 3 peaks."
        raise DataError(msg)
    recipe = Recipe(modality="atac", distribution="cellweave-atac", settings=chosen, seed=seed)
    prepared = _copied(adata, counts)
    _add_regions(prepared, recipe)
    _add_fragment_quality(prepared, chosen, recipe)
    _add_tf_idf(prepared, counts, chosen, recipe)
    _add_lsi(prepared, counts, chosen, seed, recipe)
    _add_features(prepared, counts, chosen, recipe)
    return recipe.close(prepared)


def tf_idf(counts: Any, *, kind: TfIdf = "glue") -> Any:
    """Return the TF-IDF of counts as float32 CSR; empty cells and peaks stay empty.

    A Dask array of CSR blocks gives such an array back.
    """
    if not is_lazy(counts):
        counts = sp.csr_matrix(counts)
    totals = sum_over_blocks(_column_sums, counts, shape=(1, counts.shape[1]))[0]
    inverse = np.divide(counts.shape[0], totals, out=np.zeros_like(totals), where=totals > 0)
    if kind in ("muon", "cusanovich"):
        inverse = np.log1p(inverse)
    return map_rows(partial(_weighted, inverse=inverse, kind=kind), counts)


def _column_sums(counts: sp.csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=0, dtype=np.float64)).reshape(1, -1)


def _weighted(counts: sp.csr_matrix, *, inverse: np.ndarray, kind: TfIdf) -> sp.csr_matrix:
    frequency = _rows_summing_to_one(sp.csr_matrix(counts, dtype=np.float64, copy=True))
    if kind == "muon":
        frequency.data = np.log1p(frequency.data * 1e4)
    frequency.data *= inverse[frequency.indices]
    if kind == "glue":
        frequency = _rows_summing_to_one(frequency)
    if kind in ("glue", "signac"):
        frequency.data = np.log1p(frequency.data * 1e4)
    return frequency.astype(np.float32)


def lsi(
    values: Any,
    *,
    n_components: int = 50,
    scaling: Scaling = "cells",
    n_iter: int = 15,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cell coordinates, peak loadings and singular values of a TF-IDF matrix."""
    n_components = min(n_components, min(values.shape) - 1)
    if is_lazy(values):
        from cellweave_atac.blockwise import svd_of_blocks

        left, singular, right = svd_of_blocks(values, n_components, n_iter=n_iter, seed=seed)
    else:
        from sklearn.utils.extmath import randomized_svd

        left, singular, right = randomized_svd(
            values, n_components, n_iter=n_iter, random_state=seed, flip_sign=False
        )
    left, right = signed_components(left, right)
    # Rounding leaves an empty cell next to nothing, which scaling by row would blow up.
    left[_lengths_of(values) == 0] = 0
    coordinates = standardized(left.astype(np.float64), axis=1 if scaling == "cells" else 0)
    return coordinates.astype(np.float32), right.T.astype(np.float32), singular


def _lengths_of(matrix: Any) -> np.ndarray:
    return rows_to_values(_lengths, matrix, width=1).ravel()


def _lengths(block: sp.csr_matrix) -> np.ndarray:
    return np.diff(block.indptr).astype(np.float64)[:, None]


def _row_sums(block: sp.csr_matrix) -> np.ndarray:
    return np.asarray(block.sum(axis=1, dtype=np.float64)).reshape(-1, 1)


def _open(block: sp.csr_matrix) -> sp.csr_matrix:
    made = block.copy()
    made.data[:] = 1
    return made


def _cells_by_peak(block: sp.csr_matrix) -> np.ndarray:
    return np.bincount(block.indices, minlength=block.shape[1])[None]


def _rows_summing_to_one(matrix: sp.csr_matrix) -> sp.csr_matrix:
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    scaled = matrix.copy()
    scaled.data = matrix.data * np.repeat(scale, np.diff(matrix.indptr))
    return scaled


def _copied(adata: AnnData, counts: Any) -> AnnData:
    prepared = adata.copy()
    prepared.layers["counts"] = counts
    return prepared


def _add_regions(prepared: AnnData, recipe: Recipe) -> None:
    places = region_columns(prepared.var)
    placed = int((places["chrom"] != "").sum())
    if placed:
        for column in places:
            prepared.var[column] = places[column]
    recipe.add("regions", outcome={"placed": placed, "without_place": len(places) - placed})


def _add_fragment_quality(prepared: AnnData, chosen: AtacSettings, recipe: Recipe) -> None:
    """Measure the cells in their fragments, where these were given."""
    if chosen.fragments is None:
        return
    from cellweave_atac.quality import fragment_quality

    table = fragment_quality(
        chosen.fragments,
        barcodes=[str(name) for name in prepared.obs_names],
        peaks=prepared.var,
        genes=chosen.gene_table,
    )
    if not table["n_fragments"].any():
        msg = (
            f"{chosen.fragments!r} holds no fragment of these {prepared.n_obs} cells (such as "
            f"{prepared.obs_names[0]!r}). Give the fragments of the same sample; barcodes must be "
            "spelt alike, with their suffix."
        )
        raise DataError(msg)
    for column in table:
        prepared.obs[column] = table[column].to_numpy()
    medians = {f"median_{c}": round(float(table[c].median()), 4) for c in table}
    recipe.add("fragment_quality", outcome=medians)


def _add_tf_idf(prepared: AnnData, counts: Any, chosen: AtacSettings, recipe: Recipe) -> None:
    used = map_rows(_open, counts) if chosen.binarize else counts
    prepared.X = tf_idf(used, kind=chosen.tf_idf)
    empty = int((_lengths_of(counts) == 0).sum())
    recipe.add(
        "tf_idf", kind=chosen.tf_idf, binarize=chosen.binarize, outcome={"empty_cells": empty}
    )


def _add_lsi(
    prepared: AnnData, counts: Any, chosen: AtacSettings, seed: int, recipe: Recipe
) -> None:
    coordinates, loadings, singular = lsi(
        prepared.X,
        n_components=chosen.n_components,
        scaling=chosen.scaling,
        n_iter=chosen.n_iter,
        seed=seed,
    )
    depth = np.log1p(rows_to_values(_row_sums, counts, width=1).ravel())
    correlation = _correlation(coordinates[:, 0], depth)
    dropped = chosen.drop_depth and abs(correlation) >= 0.5
    first = 1 if dropped else 0
    prepared.obsm["X_lsi"] = np.ascontiguousarray(coordinates[:, first:])
    prepared.varm["lsi_loadings"] = np.ascontiguousarray(loadings[:, first:])
    recipe.add(
        "lsi",
        n_components=prepared.obsm["X_lsi"].shape[1],
        scaling=chosen.scaling,
        n_iter=chosen.n_iter,
        outcome={
            "depth_correlation_of_first": round(correlation, 4),
            "first_dropped": bool(dropped),
            "largest_singular_value": round(float(singular[0]), 4),
        },
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _add_features(prepared: AnnData, counts: Any, chosen: AtacSettings, recipe: Recipe) -> None:
    n_cells = sum_over_blocks(_cells_by_peak, counts, shape=(1, counts.shape[1]))[0]
    n_cells = n_cells.astype(np.int64)
    prepared.var["n_cells"] = n_cells
    prepared.var["highly_variable"] = n_cells >= chosen.min_cells
    kept = int(prepared.var["highly_variable"].sum())
    recipe.add(
        "features", min_cells=chosen.min_cells, outcome={"kept": kept, "all": counts.shape[1]}
    )
