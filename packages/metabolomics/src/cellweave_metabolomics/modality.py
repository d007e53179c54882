"""The metabolomics modality: intensities of ions in cells, spots or pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.errors import UnreadableFileError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["MetabolomicsModality", "sureness"]

_TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")


class MetabolomicsModality:
    """Read imzML and feature tables, normalise intensities, name and link ions."""

    name = "metab"
    representation = "X_pca"
    settings_type = "cellweave_metabolomics.preparation:MetabolomicsSettings"
    formats = (".imzML", *_TABLES)

    def guess(self, adata: AnnData) -> float:
        """Say how surely the features are masses or metabolites."""
        return sureness(adata)

    def read(self, path: Path) -> AnnData:
        """Read an imzML image or a table of features."""
        path = Path(path)
        if path.suffix.lower() == ".imzml":
            from cellweave_metabolomics.imzml import read_imzml

            return read_imzml(path)
        if path.name.lower().endswith(_TABLES):
            return _read_table(path)
        msg = f"{str(path)!r} is no metabolomics format. Expected one of {', '.join(self.formats)}."
        raise UnreadableFileError(msg)

    def prepare(
        self, adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Prepared:
        """Return the prepared form; settings are those of ``MetabolomicsSettings``."""
        from cellweave_metabolomics.preparation import prepare

        return prepare(adata, settings=settings, seed=seed)

    def quality(self, adata: AnnData) -> pd.DataFrame:
        """Return total intensity, features seen and the share of the strongest."""
        from cellweave_metabolomics.quality import matrix_quality

        return matrix_quality(adata)


def _read_table(path: Path) -> AnnData:
    from cellweave_metabolomics.tables import read_feature_table

    adata = read_feature_table(path)
    if sureness(adata) < 0.5:
        msg = (
            f"{str(path)!r} holds features such as {str(adata.var_names[0])!r}, which are no m/z. "
            "If they are metabolites, read it with cellweave_metabolomics.read_feature_table."
        )
        raise UnreadableFileError(msg)
    return adata


def sureness(adata: AnnData) -> float:
    """Return the share of features with an m/z; half for names with chemistry beside them."""
    from cellweave_metabolomics.masses import share_of_masses

    if "feature_types" in adata.var.columns:
        kinds = adata.var["feature_types"].astype(str).str.lower()
        return float(kinds.str.contains("metabol").all()) if len(kinds) else 0.0
    share = share_of_masses(adata.var)
    told = {str(c).lower() for c in adata.var.columns}
    return share if share >= 0.5 else 0.6 * bool(told & {"hmdb", "kegg", "adduct", "formula"})
