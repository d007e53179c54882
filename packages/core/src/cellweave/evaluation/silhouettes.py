"""Average silhouette widths (ASW): types apart, modalities and batches mixed within types.

ASW by type      (mean s + 1) / 2                          1 apart, 0.5 overlapping
ASW by modality  mean over types of mean(1 − |s|)          1 mixed, 0 apart
ASW by batch     the same with batches, in each modality
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.cells import joint
from cellweave.kernels.silhouette import silhouette_widths
from cellweave.labels import is_known
from cellweave.records import Score

__all__ = ["BatchSilhouette", "Silhouette", "mixing_by_type", "separation"]


def separation(points: np.ndarray, labels: np.ndarray) -> float:
    """Return ``(mean silhouette + 1) / 2``; needs two labels and a cell more than labels."""
    codes = np.unique(labels, return_inverse=True)[1]
    n_labels = int(codes.max(initial=0)) + 1
    if not 2 <= n_labels < len(points):
        msg = f"a silhouette needs 2 to n - 1 labels; there are {n_labels} for {len(points)} cells"
        raise DataError(msg)
    return float((silhouette_widths(points, codes).mean() + 1) / 2)


def mixing_by_type(
    points: np.ndarray, groups: np.ndarray, types: np.ndarray
) -> dict[int, tuple[float, int]]:
    """Return type to (mean of ``1 − |s|`` over groups within the type, number of cells).

    A type that only one group has, or where every cell is a group, has no such number.
    """
    found = {}
    for name in np.unique(types):
        rows = np.flatnonzero(types == name)
        codes = np.unique(groups[rows], return_inverse=True)[1]
        if 2 <= codes.max(initial=0) + 1 < len(rows):
            widths = silhouette_widths(points[rows], codes)
            found[int(name)] = (float((1 - np.abs(widths)).mean()), len(rows))
    return found


class Silhouette:
    """ASW by type, and by modality within types.

    Parameters
    ----------
    max_cells
        With more cells, this many are drawn; the cost grows with its square.
    """

    needs = ("labels",)
    metrics = ("asw_type", "asw_modality")

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return ASW by type, by modality, and by modality of each type."""
        cells = joint(data, max_cells=self.max_cells, with_labels=True)
        scores = [
            Score(
                metric="asw_type",
                value=separation(cells.points, cells.labels),
                best=1.0,
                chance=0.5,
                note=cells.note,
            )
        ]
        found = mixing_by_type(cells.points, cells.modality, cells.labels)
        if not found:
            note = "no type has cells in two modalities"
            return [*scores, Score(metric="asw_modality", value=None, best=1.0, note=note)]
        whole = float(np.mean([value for value, _ in found.values()]))
        scores.append(Score(metric="asw_modality", value=whole, best=1.0, note=cells.note))
        return scores + [
            Score(metric="asw_modality", value=v, best=1.0, group=f"type:{cells.names[code]}")
            for code, (v, _) in found.items()
        ]


class BatchSilhouette:
    """ASW by batch within types, in each modality that has batches.

    Parameters
    ----------
    max_cells
        With more cells in a modality, this many are drawn.
    """

    needs = ("labels", "batches")
    metrics = ("asw_batch",)

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean over modalities, then each modality."""
        labels, batches = data.labels or {}, data.batches or {}
        values: dict[str, float] = {}
        rng = np.random.default_rng(data.seed)
        note = ""
        for modality in sorted(set(labels) & set(batches) & set(data.embeddings)):
            rows = np.flatnonzero(is_known(labels[modality]) & is_known(batches[modality]))
            if len(rows) > self.max_cells:
                rows = np.sort(rng.choice(rows, self.max_cells, replace=False))
                note = f"on at most {self.max_cells} cells a modality, drawn at random"
            types = np.unique(np.asarray(labels[modality])[rows].astype(str), return_inverse=True)
            found = mixing_by_type(
                data.embeddings[modality][rows],
                np.asarray(batches[modality])[rows].astype(str),
                types[1],
            )
            if found:
                values[modality] = float(np.mean([value for value, _ in found.values()]))
        if not values:
            msg = "no type has cells in two batches"
            raise DataError(msg)
        whole = float(np.mean(list(values.values())))
        return [
            Score(metric="asw_batch", value=value, best=1.0, group=group, note=note)
            for group, value in {"": whole, **values}.items()
        ]
