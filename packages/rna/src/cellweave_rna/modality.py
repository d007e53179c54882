"""RNA: read it, guess it, judge its cells, prepare it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["RnaModality", "guess_rna"]

_ENSEMBL = re.compile(r"ENS[A-Z]{0,4}G\d{6,}(\.\d+)?")
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9]*([.-][A-Za-z0-9]+)*")
_PEAK = re.compile(r".*[:_-]\d{3,}[-_:]\d{3,}")
_FEWEST_GENES = 200


class RnaModality:
    """Gene expression of single cells."""

    name = "rna"
    representation = "X_pca"
    settings_type = "cellweave_rna.preparation:RnaSettings"
    formats = (".loom", ".h5", "matrix.mtx", "matrix.mtx.gz")

    def guess(self, adata: AnnData) -> float:
        """Say from 0 to 1 how surely ``adata`` holds gene expression."""
        return guess_rna(adata)

    def read(self, path: Path) -> AnnData:
        """Read 10x h5, 10x mtx folders or loom into raw counts; refuse anything else."""
        from cellweave_rna.reading import read_rna

        return read_rna(Path(path))

    def prepare(
        self, adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Prepared:
        """Return the prepared form; see :class:`~cellweave_rna.preparation.RnaSettings`."""
        from cellweave_rna.preparation import prepare_rna

        return prepare_rna(adata, settings, seed=seed)

    def quality(self, adata: AnnData) -> pd.DataFrame:
        """Return counts, genes, mitochondrial percent and outliers, one row a cell."""
        from cellweave_rna.quality import quality_of

        batch_key = "batch" if "batch" in adata.obs else None
        return quality_of(adata, batch_key=batch_key)


def guess_rna(adata: AnnData) -> float:
    """Judge by what the file says of its features, then by their names; coordinates speak against.

    A file with ``obsm["spatial"]`` is left to the spatial modality, which knows places too.
    """
    if "spatial" in adata.obsm:
        return 0.2
    if "feature_types" in adata.var:
        types = adata.var["feature_types"].astype(str)
        return float((types == "Gene Expression").mean())
    names = [str(name) for name in adata.var_names[:2000]]
    if not names:
        return 0.0
    ensembl = sum(bool(_ENSEMBL.fullmatch(n)) for n in names) / len(names)
    if ensembl > 0.5:
        return 0.98
    symbols = sum(bool(_SYMBOL.fullmatch(n)) and not _PEAK.fullmatch(n) for n in names)
    enough = len(adata.var_names) >= _FEWEST_GENES
    return 0.8 * symbols / len(names) if enough else 0.1 * symbols / len(names)
