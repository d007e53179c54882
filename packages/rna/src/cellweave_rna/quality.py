"""How good each cell is: counts, genes, mitochondrial share, outliers in its batch, doublets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, closest, one_of
from cellweave.preparing import is_lazy, keep_rows, raw_values, rows_to_values

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = [
    "batches_of",
    "doublet_scores",
    "mad_outliers",
    "outliers_of",
    "quality_of",
    "sums_of_cells",
]

_SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_symbols", "gene_name", "feature_name")


def quality_of(
    adata: AnnData,
    *,
    batch_key: str | None = None,
    n_mads: float = 5.0,
    doublets: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return quality measures, one row a cell in input order.

    Parameters
    ----------
    adata
        Raw counts in ``layers["counts"]`` or ``X``; not changed.
    batch_key
        Column of ``obs`` within whose groups a cell may be an outlier.
    n_mads
        Cells further than this many median absolute deviations from their batch's median of
        log counts, log genes or mitochondrial percent (above only) are ``outlier``.
    doublets
        Add scanpy's scrublet score (slow: it simulates doublets).
    seed
        Seed of the simulated doublets.
    """
    import pandas as pd

    batches = batches_of(adata, batch_key)
    counts = raw_values(adata, modality="rna", lazily=True)
    sums = sums_of_cells(adata, counts)
    table = pd.DataFrame(sums, index=adata.obs_names.copy())
    for name, found in _outliers(sums, batches, n_mads).items():
        table[f"outlier_{name}"] = found
    table["outlier"] = outliers_of(sums, batches, n_mads)
    if doublets:
        table["doublet_score"] = doublet_scores(adata, counts, batch_key=batch_key, seed=seed)
    return table


def outliers_of(sums: Mapping[str, np.ndarray], batches: np.ndarray, n_mads: float) -> np.ndarray:
    """Mark cells that stand out of their batch by counts, genes or mitochondrial percent."""
    return np.any(list(_outliers(sums, batches, n_mads).values()), axis=0)


def _outliers(
    sums: Mapping[str, np.ndarray], batches: np.ndarray, n_mads: float
) -> dict[str, np.ndarray]:
    mito = sums["mito_percent"]
    return {
        "counts": mad_outliers(np.log1p(sums["n_counts"]), batches, n_mads),
        "genes": mad_outliers(np.log1p(sums["n_genes"]), batches, n_mads),
        "mito": mad_outliers(mito, batches, n_mads, above_only=True),
    }


def mad_outliers(
    values: np.ndarray, batches: np.ndarray, n_mads: float, *, above_only: bool = False
) -> np.ndarray:
    """Mark values far from their batch's median, in median absolute deviations."""
    import pandas as pd

    groups = pd.Series(values).groupby(batches)
    distance = values - groups.transform("median").to_numpy()
    mad = pd.Series(np.abs(distance)).groupby(batches).transform("median").to_numpy()
    far = distance if above_only else np.abs(distance)
    return (mad > 0) & (far > n_mads * mad)


def sums_of_cells(adata: AnnData, counts: Any) -> dict[str, np.ndarray]:
    """Return what is a sum over a cell's genes, in one pass over CSR or the blocks of a Dask array.

    The mitochondrial percent is 0 where no such gene is measured.
    """
    mito = mitochondrial_genes(adata).astype(np.float64)
    names = ("n_counts", "n_genes", "mito_percent", "top20_percent")
    sums = rows_to_values(partial(_sums_of_block, mito=mito), counts, width=len(names))
    found = dict(zip(names, sums.T, strict=True))
    return {**found, "n_genes": found["n_genes"].astype(np.int64)}


def _sums_of_block(counts: sp.csr_matrix, *, mito: np.ndarray) -> np.ndarray:
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    part = np.asarray(counts @ mito).ravel()
    share = 100 * np.divide(part, total, out=np.zeros_like(total), where=total > 0)
    return np.stack([total, np.diff(counts.indptr), share, _top_share(counts, 20)], axis=1)


def mitochondrial_genes(adata: AnnData) -> np.ndarray:
    """Mark genes whose symbol starts with ``MT-`` (any case), by name or by a symbol column."""
    names = adata.var_names.astype(str)
    mito = names.str.upper().str.startswith("MT-")
    for column in _SYMBOL_COLUMNS:
        if column in adata.var:
            symbols = adata.var[column].astype(str).str.upper()
            mito = mito | symbols.str.startswith("MT-").to_numpy()
    return np.asarray(mito, dtype=bool)


def batches_of(adata: AnnData, batch_key: str | None) -> np.ndarray:
    """Return the batch of each cell; one for all when there is no key."""
    if batch_key is None:
        return np.zeros(adata.n_obs, dtype=int)
    if batch_key not in adata.obs:
        msg = (
            f"obs has no column {batch_key!r}.{closest(batch_key, adata.obs.columns)} "
            f"Columns: {one_of(adata.obs.columns)}."
        )
        raise ConfigError(msg)
    return adata.obs[batch_key].astype(str).to_numpy()


def _top_share(counts: sp.csr_matrix, top: int) -> np.ndarray:
    """Return the percent of counts on each cell's ``top`` strongest genes."""
    share = np.zeros(counts.shape[0])
    lengths = np.diff(counts.indptr)
    row = np.repeat(np.arange(counts.shape[0]), lengths)
    order = np.lexsort((-counts.data, row))
    place = np.arange(counts.nnz) - np.repeat(counts.indptr[:-1], lengths)
    best = np.where(place < top, counts.data[order], 0)
    part = np.bincount(row, weights=best, minlength=counts.shape[0])
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    return 100 * np.divide(part, total, out=share, where=total > 0)


def doublet_scores(adata: AnnData, counts: Any, *, batch_key: str | None, seed: int) -> np.ndarray:
    """Return scrublet's scores, one batch in memory at a time; NaN in batches below 50 cells."""
    import scanpy as sc
    from anndata import AnnData as AnnDataClass

    batches = batches_of(adata, batch_key)
    scores = np.full(adata.n_obs, np.nan)
    for name in np.unique(batches):
        rows = np.flatnonzero(batches == name)
        kept = keep_rows(counts, batches == name)
        part = AnnDataClass(sp.csr_matrix(kept.compute() if is_lazy(kept) else kept))
        # The score needs neighbours and components; tinier batches keep NaN.
        if len(rows) < 50:
            continue
        sc.pp.scrublet(part, random_state=seed, n_prin_comps=min(30, min(part.shape) - 1))
        scores[rows] = part.obs["doublet_score"].to_numpy()
    return scores
