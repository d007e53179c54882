"""The proteins of a cell as tokens: the shared rules under this package's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cellweave.tokenizing import BinTokenizer, RankTokenizer, ValueTokenizer

__all__ = ["ProtBinTokenizer", "ProtRankTokenizer", "ProtValueTokenizer"]


@dataclass(kw_only=True, eq=False)
class ProtRankTokenizer(RankTokenizer):
    """Order each cell's proteins by their value over what is usual for each, largest first."""

    component: ClassVar[str] = "prot.rank"
    modality: ClassVar[str] = "prot"


@dataclass(kw_only=True, eq=False)
class ProtBinTokenizer(BinTokenizer):
    """Give each of a cell's proteins its bin within the cell."""

    component: ClassVar[str] = "prot.bins"
    modality: ClassVar[str] = "prot"

    n_bins: int = 11


@dataclass(kw_only=True, eq=False)
class ProtValueTokenizer(ValueTokenizer):
    """Give each of a cell's proteins its normalised value, logged."""

    component: ClassVar[str] = "prot.values"
    modality: ClassVar[str] = "prot"
