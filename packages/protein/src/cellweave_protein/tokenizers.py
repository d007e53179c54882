"""The proteins of a cell by rank: the shared rule under this package's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cellweave.tokenizing import RankTokenizer

__all__ = ["ProtRankTokenizer"]


@dataclass(kw_only=True, eq=False)
class ProtRankTokenizer(RankTokenizer):
    """Order each cell's proteins by their value over what is usual for each, largest first."""

    component: ClassVar[str] = "prot.rank"
    modality: ClassVar[str] = "prot"
