"""The ATAC modality: peaks or bins of open chromatin, counted in cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["AtacModality", "sureness"]


class AtacModality:
    """Read fragments and peak matrices, prepare them by TF-IDF and LSI, measure their quality."""

    name = "atac"
    representation = "X_lsi"
    settings_type = "cellweave_atac.preparation:AtacSettings"
    formats = (
        ".tsv.gz",
        ".tsv",
        ".bed.gz",
        ".bed",
        "folder of matrix.mtx, peaks.bed, barcodes.tsv",
    )

    def guess(self, adata: AnnData) -> float:
        """Say how surely the features are genomic regions."""
        return sureness(adata)

    def read(self, path: Path) -> AnnData:
        """Read fragments into bins of 5 kb, or a folder with a peak matrix."""
        from cellweave_atac.reading import read

        return read(Path(path))

    def prepare(
        self, adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Prepared:
        """Return the prepared form; settings are those of ``AtacSettings``."""
        from cellweave_atac.preparation import prepare

        return prepare(adata, settings=settings, seed=seed)

    def quality(self, adata: AnnData) -> pd.DataFrame:
        """Return counts, open peaks and the share in the most open peaks, one row a cell."""
        from cellweave_atac.quality import matrix_quality

        return matrix_quality(adata)


def sureness(adata: AnnData) -> float:
    """Return 1 for declared peaks, the share of region names otherwise, 0 for genes."""
    from cellweave.linking import share_of_regions

    if "feature_types" in adata.var.columns:
        kinds = adata.var["feature_types"].astype(str)
        return 1.0 if len(kinds) and (kinds == "Peaks").all() else 0.0
    return share_of_regions(adata.var_names)
