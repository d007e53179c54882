"""What the tokenizers of several modalities share: tables, rows, sequences, patches, mixtures.

No modality is known here; each package names its tokenizers and says what their rules are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.tokenizing.base import SparseTokenizer as SparseTokenizer
    from cellweave.tokenizing.bins import BinTokenizer as BinTokenizer
    from cellweave.tokenizing.combining import MultiOmicTokens as MultiOmicTokens
    from cellweave.tokenizing.combining import combine_tokens as combine_tokens
    from cellweave.tokenizing.features import FeatureTokenizer as FeatureTokenizer
    from cellweave.tokenizing.multiomic import MultiOmicTokenizer as MultiOmicTokenizer
    from cellweave.tokenizing.patches import PatchTokenizer as PatchTokenizer
    from cellweave.tokenizing.ranks import RankTokenizer as RankTokenizer
    from cellweave.tokenizing.regions import RegionTokenizer as RegionTokenizer
    from cellweave.tokenizing.rows import Rows as Rows
    from cellweave.tokenizing.table import TokenTable as TokenTable
    from cellweave.tokenizing.table import table_from_names as table_from_names
    from cellweave.tokenizing.values import ValueTokenizer as ValueTokenizer

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BinTokenizer": "cellweave.tokenizing.bins",
        "FeatureTokenizer": "cellweave.tokenizing.features",
        "MultiOmicTokenizer": "cellweave.tokenizing.multiomic",
        "MultiOmicTokens": "cellweave.tokenizing.combining",
        "PatchTokenizer": "cellweave.tokenizing.patches",
        "RankTokenizer": "cellweave.tokenizing.ranks",
        "RegionTokenizer": "cellweave.tokenizing.regions",
        "Rows": "cellweave.tokenizing.rows",
        "SparseTokenizer": "cellweave.tokenizing.base",
        "TokenTable": "cellweave.tokenizing.table",
        "ValueTokenizer": "cellweave.tokenizing.values",
        "combine_tokens": "cellweave.tokenizing.combining",
        "table_from_names": "cellweave.tokenizing.table",
    },
)
