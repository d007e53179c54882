"""Bring peaks of one ion together: m/z binning in parts per million.

Spectra are seen twice. First their peaks are summed into bins a fifth of the tolerance wide on a
logarithmic axis, where a tolerance in ppm has one width everywhere; peaks of that histogram, the
higher ones first and none within the tolerance of a higher one, are the features. Then every
peak goes to the nearest feature within the tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.preparing import raw_values
from cellweave_metabolomics.masses import masses_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["MassHistogram", "align_features", "nearest_masses"]

_BINS_PER_TOLERANCE = 5


class MassHistogram:
    """Sum spectra of any number into bounded memory, then tell the features.

    Parameters
    ----------
    ppm
        Tolerance: peaks of one feature lie within it of the feature's centre.
    low, high
        Range of m/z; peaks outside are counted in ``outside`` and left out.
    """

    def __init__(self, *, ppm: float, low: float = 20.0, high: float = 5000.0) -> None:
        if not (0.01 <= ppm <= 10_000 and 0 < low < high):
            msg = f"Got ppm={ppm!r}, low={low!r}, high={high!r}. Expected 0.01-10000, low < high."
            raise ConfigError(msg)
        self._start = np.log(low)
        self._width = ppm * 1e-6 / _BINS_PER_TOLERANCE
        n_bins = int(np.ceil((np.log(high) - self._start) / self._width)) + 1
        self._weight = np.zeros(n_bins)
        self._moment = np.zeros(n_bins)
        self._spectra = np.zeros(n_bins, dtype=np.int64)
        self.outside = 0

    def add(self, masses: np.ndarray, intensities: np.ndarray) -> None:
        """Add one spectrum."""
        keep = intensities > 0
        masses, intensities = masses[keep], intensities[keep]
        at = np.floor((np.log(masses) - self._start) / self._width).astype(np.int64)
        inside = (at >= 0) & (at < len(self._weight))
        self.outside += int((~inside).sum())
        at, masses, intensities = at[inside], masses[inside], intensities[inside]
        np.add.at(self._weight, at, intensities)
        np.add.at(self._moment, at, intensities * masses)
        self._spectra[np.unique(at)] += 1

    def centres(self, *, min_spectra: int = 1) -> np.ndarray:
        """Return the m/z of features, ascending: intensity-weighted means around the peaks."""
        from scipy.signal import find_peaks

        padded = np.concatenate([[0.0], self._weight, [0.0]])
        peaks = find_peaks(padded, height=np.finfo(float).tiny, distance=_BINS_PER_TOLERANCE)[0] - 1
        half = _BINS_PER_TOLERANCE // 2
        window = peaks[:, None] + np.arange(-half, half + 1)
        window = np.clip(window, 0, len(self._weight) - 1)
        weight, moment = self._weight[window].sum(axis=1), self._moment[window].sum(axis=1)
        seen = self._spectra[window].sum(axis=1) >= min_spectra
        return np.unique(moment[seen] / weight[seen])


def nearest_masses(masses: np.ndarray, centres: np.ndarray, *, ppm: float) -> np.ndarray:
    """Return the position of the nearest centre within ``ppm`` of it for each mass, else −1.

    ``centres`` ascend.
    """
    if len(centres) == 0:
        return np.full(len(masses), -1, dtype=np.int64)
    right = np.clip(np.searchsorted(centres, masses), 0, len(centres) - 1)
    left = np.maximum(right - 1, 0)
    closer_left = np.abs(masses - centres[left]) <= np.abs(centres[right] - masses)
    nearest = np.where(closer_left, left, right)
    near = np.abs(masses - centres[nearest]) <= ppm * 1e-6 * centres[nearest]
    return np.where(near, nearest, -1)


def align_features(adata: AnnData, *, ppm: float, reference: np.ndarray | None = None) -> AnnData:
    """Return new data whose columns are ``reference`` masses, or own masses merged within ``ppm``.

    Intensities that go to one mass are summed; what lies near none is left out and counted in
    ``uns["alignment"]``.

    Parameters
    ----------
    adata
        Raw intensities; not changed.
    ppm
        Tolerance.
    reference
        m/z of another data set (``masses_of(other.var)``), so that both get the same columns.
    """
    import pandas as pd
    from anndata import AnnData as AnnDataClass

    values = raw_values(adata, modality="metab", integers=False)
    masses = masses_of(adata.var)
    if reference is None:
        histogram = MassHistogram(ppm=ppm, low=masses.min() * 0.9, high=masses.max() * 1.1)
        histogram.add(masses, np.asarray(values.sum(axis=0)).ravel() + 1e-12)
        centres = histogram.centres()
    else:
        centres = np.unique(np.asarray(reference, dtype=np.float64))
    if len(centres) == 0:
        msg = "There is no reference mass to align to. Give m/z, or leave `reference` out."
        raise DataError(msg)
    at = nearest_masses(masses, centres, ppm=ppm)
    kept = np.flatnonzero(at >= 0)
    ones = np.ones(len(kept), dtype=np.float32)
    merge = sp.csr_matrix((ones, (kept, at[kept])), shape=(len(masses), len(centres)))
    var = pd.DataFrame({"mz": centres}, index=[f"mz-{m:.6f}" for m in centres])
    aligned = AnnDataClass(X=sp.csr_matrix(values @ merge), obs=adata.obs.copy(), var=var)
    for key, value in adata.obsm.items():
        aligned.obsm[key] = np.array(value)
    aligned.uns["alignment"] = {"ppm": ppm, "left_out": int((at < 0).sum()), "merged": len(kept)}
    return aligned
