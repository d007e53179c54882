"""How good the cells are, from the matrix alone or from the fragments.

Of a cell's fragments: FRiP is the share of cut sites in peaks; the nucleosome signal is the
number of fragments that span one nucleosome (147 to 293 bases) over that of shorter ones; the
TSS enrichment is the density of cut sites within 50 bases of starts of transcription over that
in the flanks from 1 900 to 2 000 bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.linking import (
    GeneTable,
    overlapping_pairs,
    read_gene_table,
    regions_of,
    require_regions,
)
from cellweave.linking.regions import plain_chromosome
from cellweave.preparing import raw_values
from cellweave_atac.fragments import MAX_BYTES, fragment_blocks, peak_frame

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["fragment_quality", "matrix_quality"]

_NUCLEOSOME = 147
_CENTRE = 50
_FLANK = (1900, 2000)
_Target = tuple[np.ndarray, np.ndarray, np.ndarray]


def matrix_quality(adata: AnnData) -> pd.DataFrame:
    """Return counts, open peaks, and the share of counts in the 50 most open peaks of each cell."""
    import pandas as pd

    counts = raw_values(adata, modality="atac")
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    most_open = np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")[:50]
    top = np.asarray(counts[:, np.sort(most_open)].sum(axis=1, dtype=np.float64)).ravel()
    share = np.divide(top, totals, out=np.zeros_like(top), where=totals > 0)
    return pd.DataFrame(
        {
            "total_counts": totals,
            "n_peaks": np.diff(counts.indptr),
            "share_in_top_50_peaks": share,
        },
        index=adata.obs_names,
    )


def fragment_quality(
    path: str | Path,
    *,
    barcodes: Sequence[str],
    peaks: Sequence[str] | pd.DataFrame | None = None,
    genes: str | Path | GeneTable | None = None,
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """Return quality measures of cells from a fragments file, one row a barcode, in one reading.

    Parameters
    ----------
    path
        Fragments, plain or gzipped.
    barcodes
        Cells, in the wanted order.
    peaks
        For ``frip``; the column is left out without them.
    genes
        GTF or coordinate table for ``tss_enrichment``; the column is left out without it.
    max_bytes
        Most bytes that the file may unpack to.
    """
    import pandas as pd

    index = pd.Index([str(b) for b in barcodes])
    if len(index) == 0 or not index.is_unique:
        msg = f"Got {len(index)} barcodes, {index.nunique()} of them distinct. Give each once."
        raise DataError(msg)
    chromosomes, targets = _targets(peaks, genes)
    sums = {k: np.zeros(len(index)) for k in ("fragments", "short", "mono", *targets)}
    for block in fragment_blocks(path, max_bytes=max_bytes):
        cell = index.get_indexer(pd.Index(block["barcode"]))
        _tally(sums, block[cell >= 0], cell[cell >= 0], chromosomes, targets)
    return _measures(index, sums)


def _tally(
    sums: dict[str, np.ndarray],
    block: pd.DataFrame,
    cell: np.ndarray,
    chromosomes: pd.Index,
    targets: dict[str, _Target],
) -> None:
    """Add what the fragments of one block say about their cells."""
    import pandas as pd

    n = len(sums["fragments"])
    starts, ends = block["start"].to_numpy(), block["end"].to_numpy()
    length = ends - starts
    sums["fragments"] += np.bincount(cell, minlength=n)
    sums["short"] += np.bincount(cell[length < _NUCLEOSOME], minlength=n)
    mono = (length >= _NUCLEOSOME) & (length < 2 * _NUCLEOSOME)
    sums["mono"] += np.bincount(cell[mono], minlength=n)
    chrom = chromosomes.get_indexer(pd.Index(plain_chromosome(block["chrom"].astype("str"))))
    cuts, both = np.concatenate([starts, ends - 1]), np.concatenate([cell, cell])
    points = (np.concatenate([chrom, chrom]), cuts, cuts + 1)
    for key, target in targets.items():
        at = overlapping_pairs(points, target)[0]
        # A cut site counts once for the peaks, however many overlap there; for every start.
        hit = np.unique(at) if key == "peaks" else at
        sums[key] += np.bincount(both[hit], minlength=n)


def _measures(index: pd.Index, sums: dict[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    n = sums["fragments"]
    # One short fragment more than there is keeps cells without any from an infinite signal.
    columns = {
        "n_fragments": n.astype(np.int64),
        "nucleosome_signal": sums["mono"] / (sums["short"] + 1),
    }
    if "peaks" in sums:
        columns["frip"] = np.divide(sums["peaks"], 2 * n, out=np.zeros_like(n), where=n > 0)
    if "centre" in sums:
        flank = np.maximum(sums["flank"], 1) / (2 * (_FLANK[1] - _FLANK[0]))
        columns["tss_enrichment"] = sums["centre"] / (2 * _CENTRE + 1) / flank
    return pd.DataFrame(columns, index=index)


def _targets(
    peaks: Sequence[str] | pd.DataFrame | None, genes: str | Path | GeneTable | None
) -> tuple[pd.Index, dict[str, _Target]]:
    import pandas as pd

    named: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    if peaks is not None:
        regions = regions_of(peak_frame(peaks))
        require_regions(regions, what="the peaks")
        known = regions.known
        named["peaks"] = (regions.chrom[known], regions.starts[known], regions.ends[known])
    if genes is not None:
        table = genes if isinstance(genes, GeneTable) else read_gene_table(genes)
        named |= _around_starts(table)
    chromosomes = pd.Index(
        np.unique(np.concatenate([[""], *(n[0].astype(str) for n in named.values())]))
    )
    coded = {k: (chromosomes.get_indexer(c.astype(str)), s, e) for k, (c, s, e) in named.items()}
    return chromosomes, coded


def _around_starts(table: GeneTable) -> dict[str, _Target]:
    frame = table.frame
    start = np.where(frame["strand"] == "-", frame["end"] - 1, frame["start"])
    chrom = frame["chrom"].to_numpy(dtype=object)
    low, high = _FLANK
    return {
        "centre": (chrom, start - _CENTRE, start + _CENTRE + 1),
        "flank": (
            np.concatenate([chrom, chrom]),
            np.concatenate([start - high, start + low + 1]),
            np.concatenate([start - low, start + high + 1]),
        ),
    }
