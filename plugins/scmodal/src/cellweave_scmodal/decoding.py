"""From the networks' coordinates back to features in their own units.

The networks see a modality as coordinates ``c`` (representation and linked features). A feature's
normalised value is read off them by ridge regression, ``x ≈ mean + c·B``, fitted once on all cells
through two matrix products; sparse values stay sparse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

__all__ = ["FeatureMap", "fit_feature_map"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMap:
    """Hold the linear map from coordinates to features.

    Parameters
    ----------
    features
        ``(p,)`` names.
    mean
        ``(p,)`` float32.
    slopes
        ``(d, p)`` float32, feature per unit of coordinate.
    directions
        ``(p, d)`` float32, change of the coordinates per unit of feature.
    """

    features: np.ndarray
    mean: np.ndarray
    slopes: np.ndarray
    directions: np.ndarray

    def values(self, coordinates: np.ndarray) -> np.ndarray:
        """Return ``(n, p)`` feature values."""
        return np.asarray(self.mean + coordinates @ self.slopes, dtype=np.float32)


def fit_feature_map(
    coordinates: np.ndarray, values: sp.csr_matrix, features: np.ndarray
) -> FeatureMap:
    """Fit the map by ridge regression with a ridge of one thousandth of the mean variance."""
    c = coordinates.astype(np.float64) - coordinates.mean(axis=0)
    n, d = c.shape
    mean = np.asarray(values.mean(axis=0)).ravel()
    cross = np.asarray(values.T @ c).T  # (d, p); c is centred, so the values need not be
    gram = c.T @ c
    ridge = 1e-3 * np.trace(gram) / d
    slopes = np.linalg.solve(gram + ridge * np.eye(d), cross)
    squares = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    variance = np.maximum(squares - mean**2, 1e-12)
    directions = (cross / n / variance).T
    return FeatureMap(
        features=features.astype(str),
        mean=mean.astype(np.float32),
        slopes=slopes.astype(np.float32),
        directions=directions.astype(np.float32),
    )
