"""The spatial modality: genes counted in cells or spots whose place is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["SpatialModality", "sureness"]

# What has a place but is no gene: masses and genomic regions.
_NOT_A_GENE = re.compile(r"^(?:m/?z[-_ :]?)?\d+(?:\.\d+)?$|^.+[:_-]\d+[-_]\d+$", re.IGNORECASE)


class SpatialModality:
    """Read Visium, Xenium, CosMx and MERSCOPE folders, prepare, and link by gene."""

    name = "spatial"
    representation = "X_pca"
    settings_type = "cellweave_spatial.preparation:SpatialSettings"
    formats = ("Visium folder", "Xenium folder", "CosMx folder", "MERSCOPE folder")

    def guess(self, adata: AnnData) -> float:
        """Say how surely these are genes with a place."""
        return sureness(adata)

    def read(self, path: Path) -> AnnData:
        """Read the output folder of a spatial technology."""
        from cellweave_spatial.reading import read

        return read(Path(path))

    def prepare(
        self, adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Prepared:
        """Return the prepared form; settings are those of ``SpatialSettings``."""
        from cellweave_spatial.preparation import prepare

        return prepare(adata, settings=settings, seed=seed)

    def quality(self, adata: AnnData) -> pd.DataFrame:
        """Return counts, genes seen and the distance to the nearest cell, one row a cell."""
        from cellweave_spatial.quality import matrix_quality

        return matrix_quality(adata)


def sureness(adata: AnnData) -> float:
    """Return 1 when ``obsm["spatial"]`` holds places of gene counts, else 0."""
    if "spatial" not in adata.obsm or adata.n_vars == 0:
        return 0.0
    if "feature_types" in adata.var.columns:
        genes = adata.var["feature_types"].astype(str) == "Gene Expression"
        return float(genes.mean() > 0.5)
    names = [str(n) for n in adata.var_names]
    others = sum(bool(_NOT_A_GENE.match(n)) for n in names)
    return 1.0 if others < 0.1 * len(names) and not _has_masses(adata) else 0.0


def _has_masses(adata: AnnData) -> bool:
    return any(str(c).lower() in ("mz", "m/z", "raw_mz") for c in adata.var.columns)
