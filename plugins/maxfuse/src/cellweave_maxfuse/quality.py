"""How far to trust a weave, in numbers, and in sentences where it looks poor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from cellweave.weaving import advice_on_links

__all__ = ["PairQuality", "advice_on", "poorly_matched", "unmatched_share"]

_POOR_SCORE = 0.5
_POOR_SHARE = 0.25
_LOW = 0.7
_LOW_SHARE = 0.05
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
    unmatched_left, unmatched_right
        Share of cells whose whole neighbourhood matches badly; see :func:`unmatched_share`.
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
    unmatched_left: float
    unmatched_right: float

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
            f"unmatched_{self.left}_to_{self.right}": self.unmatched_left,
            f"unmatched_{self.right}_to_{self.left}": self.unmatched_right,
        }
        return {k: float(v) for k, v in values.items() if np.isfinite(v)}


def poorly_matched(best: np.ndarray) -> float:
    """Return the share of cells whose best match scores below 0.5."""
    return float((best < _POOR_SCORE).mean())


def unmatched_share(best: np.ndarray, graph: sp.csr_matrix) -> float:
    """Return the share of cells whose neighbourhood scores below 0.7 of the median.

    Single matches are noisy; a type that the other modality lacks is a whole neighbourhood of poor
    ones. It shows where the type is unlike those that are there; one that resembles another type
    (CD4 and CD8 T cells) matches that one, and no score tells.

    Parameters
    ----------
    best
        ``(n,)`` score of the best match of each cell.
    graph
        ``(n, n)`` average over a cell and its neighbours.
    """
    near = graph @ best
    return float((near < _LOW * np.median(near)).mean())


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
    sides = ((pair.left, pair.right), (pair.right, pair.left))
    for (name, other), share in zip(sides, (pair.unmatched_left, pair.unmatched_right)):
        if share > _LOW_SHARE:
            found.append(
                f"{share:.0%} of the cells of {name!r} lie among cells that all match badly: "
                f"{other!r} may lack their type, and their partners mean nothing then. Look at the "
                "match score by cluster and leave such clusters out; a lower `rho` (0.2) makes "
                "them stand out more."
            )
    return found
