"""Every way the field turns gene expression into tokens, on one ragged record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_rna.tokenizers.bins import BinTokenizer as BinTokenizer
    from cellweave_rna.tokenizers.cell import CellTokenizer as CellTokenizer
    from cellweave_rna.tokenizers.chromosome import ChromosomeTokenizer as ChromosomeTokenizer
    from cellweave_rna.tokenizers.fixed import FixedTokenizer as FixedTokenizer
    from cellweave_rna.tokenizers.geneset import GeneSetTokenizer as GeneSetTokenizer
    from cellweave_rna.tokenizers.rank import RankTokenizer as RankTokenizer
    from cellweave_rna.tokenizers.sentence import SentenceTokenizer as SentenceTokenizer
    from cellweave_rna.tokenizers.unique import UniqueTokenizer as UniqueTokenizer
    from cellweave_rna.tokenizers.values import ValueTokenizer as ValueTokenizer

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BinTokenizer": "cellweave_rna.tokenizers.bins",
        "CellTokenizer": "cellweave_rna.tokenizers.cell",
        "ChromosomeTokenizer": "cellweave_rna.tokenizers.chromosome",
        "FixedTokenizer": "cellweave_rna.tokenizers.fixed",
        "GeneSetTokenizer": "cellweave_rna.tokenizers.geneset",
        "RankTokenizer": "cellweave_rna.tokenizers.rank",
        "SentenceTokenizer": "cellweave_rna.tokenizers.sentence",
        "UniqueTokenizer": "cellweave_rna.tokenizers.unique",
        "ValueTokenizer": "cellweave_rna.tokenizers.values",
    },
)
