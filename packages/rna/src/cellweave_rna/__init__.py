"""RNA for cellweave: read, judge, prepare, name and tokenize gene expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_rna.identifiers import GeneTable as GeneTable
    from cellweave_rna.identifiers import MappingReport as MappingReport
    from cellweave_rna.identifiers import map_genes as map_genes
    from cellweave_rna.identifiers import read_orthologues as read_orthologues
    from cellweave_rna.identifiers import sum_duplicates as sum_duplicates
    from cellweave_rna.modality import RnaModality as RnaModality
    from cellweave_rna.preparation import RnaSettings as RnaSettings
    from cellweave_rna.preparation import prepare_rna as prepare_rna
    from cellweave_rna.quality import quality_of as quality_of
    from cellweave_rna.reading import read_rna as read_rna

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "GeneTable": "cellweave_rna.identifiers",
        "MappingReport": "cellweave_rna.identifiers",
        "RnaModality": "cellweave_rna.modality",
        "RnaSettings": "cellweave_rna.preparation",
        "map_genes": "cellweave_rna.identifiers",
        "prepare_rna": "cellweave_rna.preparation",
        "quality_of": "cellweave_rna.quality",
        "read_orthologues": "cellweave_rna.identifiers",
        "read_rna": "cellweave_rna.reading",
        "sum_duplicates": "cellweave_rna.identifiers",
    },
)
