"""Which modality a key stands for, and which one names and values speak for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.keys import kind_of_key
from cellweave.validation.names import NameSummary
from cellweave.validation.values import ValueSummary

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["canonical_modality", "speaks_for"]

_ALIASES = {
    "rna": "rna gex gene genes expression transcriptome scrna mrna",
    "atac": "atac peaks peak scatac chromatin accessibility",
    "prot": "prot protein proteins adt cite antibody",
    "spatial": "spatial visium merfish xenium st",
    "metab": "metab metabolomics metabolites msi lipids",
}
_BY_ALIAS = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split(" ")}
_INTERVAL_COLUMNS = ({"chrom", "chromStart", "chromEnd"}, {"chrom", "start", "end"})


def canonical_modality(key: str) -> str | None:
    """Give the modality that a MuData key stands for; ``None`` for a third party's."""
    kind = kind_of_key(key.lower(), _BY_ALIAS)
    return None if kind is None else _BY_ALIAS[kind]


def speaks_for(adata: AnnData, names: NameSummary, values: ValueSummary) -> str | None:
    """Say of which modality features and values can only be; ``None`` when in doubt.

    ``rna`` here means gene expression, dissociated or in place.
    """
    columns = set(adata.var.columns)
    # Genes carry coordinates too, for links by distance; they have a strand and known names.
    looks_genic = "strand" in columns or names.familiar >= 8 or names.share(names.ids) >= 0.5
    has_intervals = any(needed <= columns for needed in _INTERVAL_COLUMNS) and not looks_genic
    if names.share(names.peaks) > 0.5 or has_intervals:
        return "atac"
    if names.share(names.masses) > 0.5:
        return "metab"
    if names.share(names.ids) > 0.5:
        return "rna"
    # A panel of antibodies is short, and nearly every cell binds some of each.
    if names.n < 500 and names.share(names.antibodies) > 0.3 and values.density > 0.3:
        return "prot"
    if names.familiar >= 8 and names.share(names.antibodies) < 0.2:
        return "rna"
    return None
