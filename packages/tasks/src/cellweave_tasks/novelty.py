r"""How far off a cell must lie to be called unknown: a limit a type, widened for a new technology.

Conformal: the limit of type :math:`t` is the :math:`\lceil (n+1)(1-α) \rceil`-th smallest novelty
of :math:`n` cells that were said to be :math:`t` by classifiers that saw neither them nor, where
there are groups, any cell of their group. With fewer than 100 such cells a tail is not known: the
limit is then the median of the type times what all types say of the tail, relative to their
medians; with fewer than 10 the type shares the limit of all.

Cells of another technology all lie further off: a shift that types do not explain adds its square
to every squared distance. It is estimated from the cells to label, without their labels: the
median over types of median(novelty of the query)² − median(novelty at calibration)², 0 or more, is
added to the squared limit. Half of the types may be swollen by unseen ones before that fails. With
fewer than two types of 20 cells nothing is known of a shift, and nothing is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

__all__ = ["Limits", "conformal_limit"]

_FEWEST_TO_CALIBRATE = 10
_FEWEST_FOR_A_TAIL = 100
_FEWEST_TO_SHIFT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Novelty above which a cell said to be of each type is unknown.

    Parameters
    ----------
    by_type
        One limit a type, in the order of the classifier's classes.
    middle
        Median novelty at calibration of each type; NaN where too few cells were left out.
    """

    by_type: np.ndarray
    middle: np.ndarray

    @classmethod
    def calibrated(cls, novelty: np.ndarray, said: np.ndarray, n_types: int, rate: float) -> Self:
        """Calibrate on cells left out; ``said`` holds the codes of the types they were given."""
        shared = conformal_limit(novelty, rate)
        limits, middle = np.full(n_types, shared), np.full(n_types, np.nan)
        sizes = np.bincount(said, minlength=n_types)
        for code in np.flatnonzero(sizes >= _FEWEST_TO_CALIBRATE):
            middle[code] = np.median(novelty[said == code])
        known = np.isfinite(middle[said])
        reach = conformal_limit(novelty[known] / middle[said[known]], rate)
        for code in np.flatnonzero(np.isfinite(middle)):
            own = novelty[said == code]
            is_enough = sizes[code] >= _FEWEST_FOR_A_TAIL
            limits[code] = conformal_limit(own, rate) if is_enough else reach * middle[code]
        return cls(by_type=limits, middle=middle)

    @classmethod
    def none(cls, n_types: int) -> Self:
        """Call no cell unknown."""
        return cls(by_type=np.full(n_types, np.inf), middle=np.full(n_types, np.nan))

    def of(self, novelty: np.ndarray, said: np.ndarray, *, widened: bool = True) -> np.ndarray:
        """Return the limit of each cell, given the novelty and type code of all of them."""
        extra = self.shift(novelty, said) if widened else 0.0
        return np.asarray(np.sqrt(self.by_type**2 + extra)[said])

    def shift(self, novelty: np.ndarray, said: np.ndarray) -> float:
        """Return the square by which these cells lie further off than those of calibration."""
        found = [
            float(np.median(novelty[said == code]) ** 2 - middle**2)
            for code, middle in enumerate(self.middle)
            if np.isfinite(middle) and (said == code).sum() >= _FEWEST_TO_SHIFT
        ]
        return max(0.0, float(np.median(found))) if len(found) > 1 else 0.0


def conformal_limit(novelty: np.ndarray, rate: float) -> float:
    """Return the value that a new exchangeable cell exceeds with at most ``rate``."""
    n = len(novelty)
    if n == 0:
        return float("inf")
    place = int(np.ceil((n + 1) * (1 - rate)))
    return float(np.sort(novelty)[min(place, n) - 1])
