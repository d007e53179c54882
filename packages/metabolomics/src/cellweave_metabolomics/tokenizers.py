"""The ions of a cell as tokens: the shared rules under this package's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cellweave.tokenizing import BinTokenizer, RankTokenizer, ValueTokenizer

__all__ = ["MetabBinTokenizer", "MetabRankTokenizer", "MetabValueTokenizer"]


@dataclass(kw_only=True, eq=False)
class MetabRankTokenizer(RankTokenizer):
    """Order each cell's ions by their value over what is usual for each, largest first."""

    component: ClassVar[str] = "metab.rank"
    modality: ClassVar[str] = "metab"


@dataclass(kw_only=True, eq=False)
class MetabBinTokenizer(BinTokenizer):
    """Give each of a cell's ions its bin within the cell."""

    component: ClassVar[str] = "metab.bins"
    modality: ClassVar[str] = "metab"

    n_bins: int = 11


@dataclass(kw_only=True, eq=False)
class MetabValueTokenizer(ValueTokenizer):
    """Give each of a cell's ions its normalised value, logged."""

    component: ClassVar[str] = "metab.values"
    modality: ClassVar[str] = "metab"
