"""How far to trust a weave, in numbers, and in sentences where it looks poor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cellweave.weaving import advice_on_links

__all__ = ["PairQuality", "advice_on", "poorly_matched"]

_POOR_SCORE = 0.5
_POOR_SHARE = 0.25
_POOR_CORRELATION = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class PairQuality:
    """Hold what is known of one pair of modalities.

    Parameters
    ----------
    columns
        Linked columns.
    link_agreement, link_z
        How alike linked features co-vary, and its distance from shuffled links in deviations.
    correlation
        The first canonical correlation of matched cells.
    score
        Median score of the matches.
    poor_left, poor_right
        Share of cells whose best match scores below 0.5.
    """

    left: str
    right: str
    columns: int
    link_agreement: float
    link_z: float
    correlation: float
    score: float
    poor_left: float
    poor_right: float

    def measures(self) -> Mapping[str, float]:
        """Return the finite measures by name."""
        pair = f"{self.left}_{self.right}"
        values = {
            f"link_agreement_{pair}": self.link_agreement,
            f"link_z_{pair}": self.link_z,
            f"canonical_correlation_{pair}": self.correlation,
            f"match_score_{pair}": self.score,
            f"poorly_matched_{self.left}_to_{self.right}": self.poor_left,
            f"poorly_matched_{self.right}_to_{self.left}": self.poor_right,
        }
        return {k: float(v) for k, v in values.items() if np.isfinite(v)}


def poorly_matched(best: np.ndarray) -> float:
    """Return the share of cells whose best match scores below 0.5."""
    return float((best < _POOR_SCORE).mean())


def advice_on(pair: PairQuality) -> list[str]:
    """Return what is wrong with a pair and what to try; nothing when it looks sound."""
    who = f"{pair.left!r} and {pair.right!r}"
    found = advice_on_links(pair.left, pair.right, columns=pair.columns, link_z=pair.link_z)
    if pair.correlation < _POOR_CORRELATION:
        found.append(
            f"The first canonical correlation of {who} is {pair.correlation:.2f}: they share "
            "little. Check the preparation, or name other representations with `use_rep`."
        )
    for name, share in ((pair.left, pair.poor_left), (pair.right, pair.poor_right)):
        if share > _POOR_SHARE:
            found.append(
                f"{share:.0%} of the cells of {name!r} match with a score below {_POOR_SCORE}. "
                "Check the links and the preparation, or name other representations with `use_rep`."
            )
    return found
