"""Do the modalities mix: Seurat alignment score and omics entropy mixing.

Seurat alignment score (SAS; Butler et al. 2018), K modalities drawn to equal size, k = 1 % of all,
x̄ the mean number of own-modality cells among the k nearest:

    SAS = min(1, (k − x̄) · K / (k · (K − 1)))          1 mixed, 0 apart; mean of four draws

Omics entropy mixing (OEMS): p the share of each modality among a cell's k nearest, P its share of
all, q = (p / P) / Σ(p / P):  mean of −Σ q log₂ q, over log₂ K. Both logarithms are base 2: with
natural ones above and base 2 below, as is met in the literature, perfect mixing would be 0.693.
All cells count (no random pools), and distances are those of the embedding, not of a UMAP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.cells import joint
from cellweave.evaluation.neighbours import percent_of, within
from cellweave.records import Score

__all__ = ["EntropyMixing", "SeuratAlignment", "entropy_of_mixing", "seurat_alignment"]

_DRAWS = 4
_FEWEST_NEIGHBOURS = 15


def seurat_alignment(points: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> float:
    """Return the alignment of one draw with groups of equal size."""
    n_groups = int(groups.max()) + 1
    k = percent_of(len(points))
    indices, _ = within(points, k, seed=seed)
    same = (groups[indices] == groups[:, None]).sum(axis=1).mean()
    return float(min(1.0, (k - same) * n_groups / (k * (n_groups - 1))))


def entropy_of_mixing(groups: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the base-2 entropy of each cell's neighbourhood, as a share of the largest."""
    n_groups = int(groups.max()) + 1
    share = np.bincount(groups, minlength=n_groups) / len(groups)
    near = np.stack([(groups[indices] == g).mean(axis=1) for g in range(n_groups)], axis=1)
    adjusted = near / share
    adjusted /= adjusted.sum(axis=1, keepdims=True)
    logs = np.log2(adjusted, out=np.zeros_like(adjusted), where=adjusted > 0)
    return -(adjusted * logs).sum(axis=1) / np.log2(n_groups)


def _refuse_one(data: MetricInput) -> None:
    if len(data.embeddings) < 2:
        msg = "there is one modality only"
        raise DataError(msg)


class SeuratAlignment:
    """Seurat alignment score over the modalities.

    Parameters
    ----------
    max_cells
        At most this many cells in a draw, all modalities together.
    """

    needs: tuple[str, ...] = ()
    metrics = ("seurat_alignment",)

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean of four draws."""
        from dataclasses import replace

        _refuse_one(data)
        values, note = [], ""
        for draw in range(_DRAWS):
            cells = joint(
                replace(data, seed=data.seed + draw), max_cells=self.max_cells, per_modality=True
            )
            values.append(seurat_alignment(cells.points, cells.modality, seed=data.seed + draw))
            note = cells.note
        note = "; ".join(part for part in (f"mean of {_DRAWS} draws", note) if part)
        value = float(np.mean(values))
        return [Score(metric="seurat_alignment", value=value, best=1.0, note=note)]


class EntropyMixing:
    """Omics entropy mixing score, base 2 above and below.

    Parameters
    ----------
    max_cells
        With more cells, this many are drawn.
    """

    needs: tuple[str, ...] = ()
    metrics = ("entropy_mixing",)

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean over cells."""
        _refuse_one(data)
        cells = joint(data, max_cells=self.max_cells)
        k = percent_of(len(cells.points), at_least=_FEWEST_NEIGHBOURS)
        indices, _ = within(cells.points, k, seed=data.seed)
        value = float(entropy_of_mixing(cells.modality, indices).mean())
        note = "; ".join(p for p in (f"log2 above and below, {k} neighbours", cells.note) if p)
        return [Score(metric="entropy_mixing", value=value, best=1.0, note=note)]
