"""Linked values on one scale: centred within batches, columns of deviation 1, rows of length 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellweave.weaving import batch_means

__all__ = ["Scaling", "fitted_scaling", "scaled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Hold ``(batches, s)`` means and ``(s,)`` deviations; infinite where a column is constant."""

    means: np.ndarray
    spread: np.ndarray


def fitted_scaling(values: np.ndarray, batch: np.ndarray) -> Scaling:
    """Return the scaling of values, without another array of their size."""
    means = batch_means(values, batch)
    square = np.einsum("ij,ij->j", values, values, dtype=np.float64) / len(values)
    share = np.bincount(batch, minlength=len(means)) / len(batch)
    variance = np.maximum(square - share @ means.astype(np.float64) ** 2, 0)
    spread = np.sqrt(variance)
    spread[spread < 1e-6] = np.inf
    return Scaling(means=means, spread=spread.astype(np.float32))


def scaled(values: np.ndarray, batch: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Scale ``values`` in place and return them; a batch beyond the last takes the mean of all."""
    centre = np.vstack([scaling.means, scaling.means.mean(axis=0)])
    if len(scaling.means) == 1:
        values -= centre[0]
    else:
        values -= centre[batch]
    values /= scaling.spread
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))
    values /= np.where(norms > 0, norms, 1)[:, None]
    return values
