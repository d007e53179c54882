r"""Roughness of a property over an embedding (ROGI; Aldeghi et al. 2022).

With values in [0, 1] and distances divided by the largest possible one (Euclidean: the diagonal of
the box around the points), complete-linkage clusters at threshold :math:`t` have

.. math:: σ_t = 2 \sqrt{\sum_c \frac{n_c}{n} (\bar y_c - \bar y)^2}, \quad
          \mathrm{ROGI} = σ_0 - \int_0^1 σ_t\,dt

:math:`σ_0` is of single cells, :math:`σ_1 = 0`; thresholds are the merge heights, at least 0.01
apart, and the integral is by trapezoids. 0 is smooth: cells that differ lie far apart. For labels
the roughness is the mean over types of that of "is of this type", a value of 0 or 1.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from cellweave.errors import DataError

__all__ = ["label_roughness", "roughness"]

_SMALLEST_STEP = 0.01


def roughness(points: np.ndarray, values: np.ndarray, *, min_step: float = _SMALLEST_STEP) -> float:
    """Return the ROGI of one number a cell; it is scaled to [0, 1] first."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) != len(points) or not np.isfinite(values).all():
        msg = f"{len(values)} values for {len(points)} cells, or some are NaN. Give one each."
        raise DataError(msg)
    spread = np.ptp(values)
    scaled = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
    return float(_roughness(points, scaled[:, None], min_step)[0])


def label_roughness(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over types of the ROGI of belonging to the type."""
    names, codes = np.unique(labels, return_inverse=True)
    return float(_roughness(points, np.eye(len(names))[codes], _SMALLEST_STEP).mean())


def _roughness(points: np.ndarray, values: np.ndarray, min_step: float) -> np.ndarray:
    """Return the ROGI of each column of ``values``, all from one tree."""
    if len(points) < 3:
        msg = f"ROGI needs 3 cells or more, there are {len(points)}."
        raise DataError(msg)
    points = np.asarray(points, dtype=np.float64)
    diagonal = float(np.sqrt((np.ptp(points, axis=0) ** 2).sum()))
    tree = linkage(pdist(points) / (diagonal or 1.0), method="complete")
    steps = [0.0, *_thresholds(tree[:, 2], min_step), 1.0]
    spreads = [_spread(np.arange(len(points)), values)]
    spreads += [_spread(fcluster(tree, t, criterion="distance") - 1, values) for t in steps[1:-1]]
    spreads.append(np.zeros(values.shape[1]))
    return np.asarray(spreads[0] - np.trapezoid(np.stack(spreads), steps, axis=0))


def _thresholds(heights: np.ndarray, min_step: float) -> list[float]:
    """Return merge heights in rising order that are ``min_step`` apart or more, below 1."""
    chosen, last = [], 0.0
    for height in np.sort(heights):
        if height - last >= min_step and height < 1:
            chosen.append(float(height))
            last = float(height)
    return chosen


def _spread(clusters: np.ndarray, values: np.ndarray) -> np.ndarray:
    sizes = np.bincount(clusters).astype(np.float64)
    sums = np.stack([np.bincount(clusters, weights=v) for v in values.T], axis=1)
    means = sums / sizes[:, None]
    share = sizes / sizes.sum()
    return np.asarray(2 * np.sqrt(share @ (means - values.mean(axis=0)) ** 2))
