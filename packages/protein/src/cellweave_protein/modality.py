"""The protein modality: antibody-derived tags counted in cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["ProteinModality", "sureness"]

_LARGEST_PANEL = 1000


class ProteinModality:
    """Read antibody counts, normalise them by CLR or DSB, and know what the names mean."""

    name = "prot"
    representation = "X_pca"
    settings_type = "cellweave_protein.preparation:ProteinSettings"
    formats = (".csv", ".csv.gz", ".tsv", ".tsv.gz")

    def guess(self, adata: AnnData) -> float:
        """Say how surely the features are antibodies."""
        return sureness(adata)

    def read(self, path: Path) -> AnnData:
        """Read a table of counts, cells or antibodies in rows; 10x files are read by the core."""
        from cellweave_protein.reading import read

        return read(Path(path))

    def prepare(
        self, adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Prepared:
        """Return the prepared form; settings are those of ``ProteinSettings``."""
        from cellweave_protein.preparation import prepare

        return prepare(adata, settings=settings, seed=seed)

    def quality(self, adata: AnnData) -> pd.DataFrame:
        """Return counts, proteins seen, and the share of isotype controls, one row a cell."""
        from cellweave_protein.quality import matrix_quality

        return matrix_quality(adata)


def sureness(adata: AnnData) -> float:
    """Return the share of names that are markers, if some of them can be nothing else.

    ``CD4`` and ``CD14`` are genes as well: a panel of RNA probes is told from one of antibodies by
    names that only antibodies bear (``CD45RA``, ``PD-1``, ``anti-CD3``, ``IgG1``).
    """
    from cellweave_protein.markers import is_hashtag, is_isotype, match_markers

    names = [str(n) for n in adata.var_names]
    if "feature_types" in adata.var.columns:
        kinds = adata.var["feature_types"].astype(str)
        return 1.0 if len(kinds) and kinds.isin(["Antibody Capture", "Protein"]).all() else 0.0
    if not names or len(names) > _LARGEST_PANEL:
        return 0.0
    report = match_markers(names)
    control = [is_isotype(n) or is_hashtag(n) for n in names]
    is_gene = [n.upper() in genes.upper().split("|") for n, genes in zip(names, report["genes"])]
    known = [bool(m) or c for m, c in zip(report["marker"], control)]
    only_protein = [k and not g for k, g in zip(known, is_gene)]
    share, telling = sum(known) / len(names), sum(only_protein) / len(names)
    return share if telling >= 0.25 else 0.0
