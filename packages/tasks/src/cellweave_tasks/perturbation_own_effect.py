r"""What a perturbation does to the gene it names: a knock-down lowers it, in proportion.

Screens share this for genes that were never perturbed. One slope :math:`s` with
:math:`\Delta_{pp} \approx s\, m_p`, :math:`m` the mean of the control cells, is fitted over
training singles whose gene was measured, and used where leaving each out shows that it tells more
than what was expected of that gene anyway: the mean over the other perturbations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from cellweave_tasks.perturbation_models import Training

__all__ = ["OwnEffect"]

_FEWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEffect:
    """Hold the slope (0 where there is none), control levels, and where each gene stands."""

    slope: float
    levels: np.ndarray
    places: dict[str, int]

    @classmethod
    def of(cls, training: Training, names: Sequence[str], deltas: np.ndarray) -> Self:
        """Fit on training singles, named, and their mean changes."""
        levels = _levels(training)
        places = {str(name): i for i, name in enumerate(training.names)}
        rows = [i for i, name in enumerate(names) if name in places]
        columns = [places[names[i]] for i in rows]
        slope = _slope(levels[columns], deltas[rows][:, columns]) if rows else 0.0
        return cls(slope=slope, levels=levels, places=places)

    def on(self, gene: str, change: np.ndarray) -> np.ndarray:
        """Return the change with that of the gene itself put in."""
        if self.slope == 0 or gene not in self.places:
            return change
        found = change.copy()
        at = self.places[gene]
        found[at] = self.slope * self.levels[at]
        return found


def _levels(training: Training) -> np.ndarray:
    found = [np.asarray(c.mean(axis=0), dtype=np.float64) for c in training.controls.values()]
    return np.mean([c.ravel() for c in found], axis=0)


def _slope(levels: np.ndarray, changes: np.ndarray) -> float:
    """Return the slope of own changes (the diagonal) on levels; 0 where the rest tells as much."""
    own, n = np.diag(changes), len(levels)
    squares, products = levels**2, levels * own
    if n < _FEWEST or not (squares > 0).any():
        return 0.0
    left_out = (products.sum() - products) / np.maximum(squares.sum() - squares, 1e-12)
    by_slope = ((own - left_out * levels) ** 2).sum()
    by_others = ((own - (changes.sum(axis=0) - own) / (n - 1)) ** 2).sum()
    return float(products.sum() / squares.sum()) if by_slope < by_others else 0.0
