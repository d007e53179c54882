"""Gene activity: what the peaks around a gene add up to, the near ones counting more."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.linking import (
    DistanceRule,
    GeneTable,
    Regions,
    link_by_distance,
    locate_genes,
    read_gene_table,
    regions_of,
    require_regions,
)
from cellweave.preparing import map_rows, raw_values

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["gene_activity"]


def gene_activity(
    atac: AnnData,
    genes: str | Path | GeneTable | AnnData,
    *,
    anchor: str = "combined",
    window: int = 10_000,
    scale: float = 1000.0,
    power: float = 0.75,
    promoter_length: int = 2000,
) -> AnnData:
    """Return cells × genes: counts of peaks within ``window``, weighted by distance.

    Parameters
    ----------
    atac
        Peak counts; not changed. Lazily read counts give a lazy ``X``.
    genes
        GTF, coordinate table, or data whose ``var`` has gene coordinates.
    anchor, window, scale, power, promoter_length
        See :class:`cellweave.linking.DistanceRule`.

    Returns
    -------
    anndata.AnnData
        Float32 CSR ``X``, one column a gene with a peak in reach, in the order of ``genes``.
    """
    from anndata import AnnData as AnnDataClass

    rule = DistanceRule(
        anchor=anchor,  # type: ignore[arg-type]
        promoter_length=promoter_length,
        reach=window,
        scale=scale,
        power=power,
    )
    counts = raw_values(atac, modality="atac", lazily=True)
    regions = regions_of(atac.var)
    require_regions(regions, what="the ATAC data")
    var, places = _genes_of(genes)
    pairs = link_by_distance(places, regions, rule)
    shape = (len(regions), len(places))
    weights = sp.csr_matrix((pairs.weights, (pairs.regions, pairs.genes)), shape=shape)
    reached = np.flatnonzero(np.bincount(pairs.genes, minlength=len(places)))
    if len(reached) == 0:
        msg = f"No gene has a peak within {window:,} bases. Check that the genomes are the same."
        raise DataError(msg)
    values = map_rows(partial(_added_up, weights=weights[:, reached]), counts)
    return AnnDataClass(X=values, obs=atac.obs.copy(), var=var.iloc[reached].copy())


def _added_up(counts: sp.csr_matrix, *, weights: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix(counts.astype(np.float64) @ weights).astype(np.float32)


def _genes_of(genes: str | Path | GeneTable | AnnData) -> tuple[pd.DataFrame, Regions]:
    if isinstance(genes, str | Path):
        genes = read_gene_table(genes)
    if isinstance(genes, GeneTable):
        return _from_table(genes)
    places = locate_genes(genes.var, None)
    require_regions(places, what="the genes")
    return genes.var, places


def _from_table(table: GeneTable) -> tuple[pd.DataFrame, Regions]:
    frame = table.frame
    names = frame["symbol"].where(frame["symbol"] != "", frame["id"])
    # The table puts the locus that is meant first; later ones of the name keep their identifier.
    names = names.where(~names.duplicated(), frame["id"])
    var = frame.set_index(names.rename(None))[["id", "chrom", "start", "end", "strand"]]
    var.columns = ["gene_id", "chrom", "chromStart", "chromEnd", "strand"]
    var = var.loc[~var.index.duplicated() & (var.index != "")]
    if var.empty:
        msg = (
            f"{table.path!r} names none of its {len(frame)} genes. Expected a column 'symbol' or "
            "'id' beside chrom, start and end. Rename the column with the names."
        )
        raise DataError(msg)
    return var, regions_of(var)
