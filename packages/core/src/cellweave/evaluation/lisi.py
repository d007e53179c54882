"""Local inverse Simpson's index (Korsunsky et al. 2019): how many labels surround a cell.

The 90 nearest weigh by a Gaussian whose width gives perplexity 30; LISI = 1 / Σ p_l² over the
weighted label shares. Medians over cells, scaled to [0, 1]:

    iLISI = (median − 1) / (L − 1)   modalities or batches: 1 mixed
    cLISI = (L − median) / (L − 1)   types: 1 pure
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.cells import JointCells, joint
from cellweave.evaluation.neighbours import within
from cellweave.labels import is_known
from cellweave.records import Score

__all__ = ["Lisi", "lisi"]

_NEIGHBOURS = 90


def lisi(
    codes: np.ndarray, indices: np.ndarray, distances: np.ndarray, *, perplexity: float = 30.0
) -> np.ndarray:
    """Return the LISI of each cell from its neighbours (self left out)."""
    n_labels = int(codes.max()) + 1
    perplexity = min(perplexity, max(indices.shape[1] / 3, 1.0))
    return _lisi(codes.astype(np.int64), indices, distances, n_labels, np.log(perplexity))


@njit(cache=True, nogil=True)
def _lisi(codes, indices, distances, n_labels, target):  # type: ignore[no-untyped-def]
    out = np.empty(len(indices))
    for i in range(len(indices)):
        weights = _weights(distances[i], target)
        shares = np.zeros(n_labels)
        for j in range(indices.shape[1]):
            shares[codes[indices[i, j]]] += weights[j]
        out[i] = 1.0 / (shares * shares).sum()
    return out


@njit(cache=True, nogil=True)
def _weights(distances, target):  # type: ignore[no-untyped-def]
    """Return Gaussian weights whose entropy is ``target``, by bisection on the precision."""
    beta, low, high = 1.0, -np.inf, np.inf
    shifted = distances - distances[0]  # the factor cancels, and exp cannot underflow for all
    weights = np.exp(-shifted * beta)
    for _ in range(60):
        weights = np.exp(-shifted * beta)
        total = weights.sum()
        entropy = np.log(total) + beta * (shifted * weights).sum() / total
        if abs(entropy - target) < 1e-6:
            break
        if entropy > target:
            low = beta
            beta = beta * 2 if high == np.inf else (beta + high) / 2
        else:
            high = beta
            beta = beta / 2 if low == -np.inf else (beta + low) / 2
    return weights / weights.sum()


class Lisi:
    """ILISI by modality and by batch, cLISI by type, from one neighbour search.

    Parameters
    ----------
    max_cells
        With more cells, this many are drawn.
    """

    needs: tuple[str, ...] = ()
    metrics = ("ilisi_modality", "clisi_type", "ilisi_batch")

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return what the input allows, each with its own reason where it does not."""
        return [self._by_modality(data), self._by_type(data), self._by_batch(data)]

    def _by_modality(self, data: MetricInput) -> Score:
        if len(data.embeddings) < 2:
            return _missing("ilisi_modality", "there is one modality only")
        cells = joint(data, max_cells=self.max_cells)
        value = _median(cells.points, cells.modality, data.seed)
        return _mixed("ilisi_modality", value, len(cells.modalities), cells.note)

    def _by_type(self, data: MetricInput) -> Score:
        if not data.labels:
            return _missing("clisi_type", "no cell types are given")
        cells: JointCells = joint(data, max_cells=self.max_cells, with_labels=True)
        if len(cells.names) < 2:
            return _missing("clisi_type", "there is one type only")
        n = len(cells.names)
        value = (n - _median(cells.points, cells.labels, data.seed)) / (n - 1)
        return Score(metric="clisi_type", value=float(value), best=1.0, note=cells.note)

    def _by_batch(self, data: MetricInput) -> Score:
        values, note, batches = [], "", data.batches or {}
        rng = np.random.default_rng(data.seed)
        for modality in sorted(set(batches) & set(data.embeddings)):
            rows = np.flatnonzero(is_known(batches[modality]))
            if len(rows) > self.max_cells:
                rows = np.sort(rng.choice(rows, self.max_cells, replace=False))
                note = f"on at most {self.max_cells} cells a modality, drawn at random"
            names, codes = np.unique(
                np.asarray(batches[modality])[rows].astype(str), return_inverse=True
            )
            if len(names) > 1:
                median = _median(data.embeddings[modality][rows], codes, data.seed)
                values.append((median - 1) / (len(names) - 1))
        if not values:
            return _missing("ilisi_batch", "no batches are given, or one only")
        return Score(metric="ilisi_batch", value=float(np.mean(values)), best=1.0, note=note)


def _median(points: np.ndarray, codes: np.ndarray, seed: int) -> float:
    if len(points) < 4:
        msg = f"LISI needs at least 4 cells, there are {len(points)}"
        raise DataError(msg)
    indices, distances = within(points, min(_NEIGHBOURS, len(points) - 1), seed=seed)
    return float(np.median(lisi(codes, indices, distances)))


def _mixed(metric: str, median: float, n: int, note: str) -> Score:
    return Score(metric=metric, value=(median - 1) / (n - 1), best=1.0, note=note)


def _missing(metric: str, note: str) -> Score:
    return Score(metric=metric, value=None, best=1.0, note=note)
