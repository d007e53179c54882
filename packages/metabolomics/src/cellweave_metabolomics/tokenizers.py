"""The ions of a cell by rank: the shared rule under this package's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cellweave.tokenizing import RankTokenizer

__all__ = ["MetabRankTokenizer"]


@dataclass(kw_only=True, eq=False)
class MetabRankTokenizer(RankTokenizer):
    """Order each cell's ions by their value over what is usual for each, largest first."""

    component: ClassVar[str] = "metab.rank"
    modality: ClassVar[str] = "metab"
