"""KBET by scib-metrics (Büttner et al. 2019): share of neighbourhoods with the batches expected.

Needs ``pip install "cellweave-core[scib]"``; JAX decides its speed, and compiles at first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.cells import joint
from cellweave.evaluation.neighbours import within
from cellweave.labels import is_known
from cellweave.records import Score

__all__ = ["Kbet"]

_NEIGHBOURS = 50


class Kbet:
    """KBET acceptance rate over modalities, and over batches in each modality that has them.

    Parameters
    ----------
    max_cells
        With more cells, this many are drawn.
    """

    needs: tuple[str, ...] = ()
    metrics = ("kbet_modality", "kbet_batch")

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the rate over modalities, then over batches of each modality."""
        scores = []
        if len(data.embeddings) > 1:
            cells = joint(data, max_cells=self.max_cells)
            value = _acceptance(cells.points, cells.modality, data.seed)
            scores.append(Score(metric="kbet_modality", value=value, best=1.0, note=cells.note))
        for modality, batches in sorted((data.batches or {}).items()):
            rows = np.flatnonzero(is_known(batches))
            codes = np.unique(np.asarray(batches)[rows].astype(str), return_inverse=True)[1]
            if codes.max(initial=0) == 0:
                continue
            if len(rows) > self.max_cells:
                draw = np.random.default_rng(data.seed).choice(len(rows), self.max_cells, False)
                rows, codes = rows[draw], codes[draw]
            value = _acceptance(data.embeddings[modality][rows], codes, data.seed)
            scores.append(Score(metric="kbet_batch", value=value, best=1.0, group=modality))
        if not scores:
            msg = "there is one modality and one batch only"
            raise DataError(msg)
        return scores


def _acceptance(points: np.ndarray, codes: np.ndarray, seed: int) -> float:
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults

    indices, distances = within(points, min(_NEIGHBOURS, len(points) - 1), seed=seed)
    itself = np.arange(len(points))[:, None]
    table: Any = NeighborsResults(  # its tables begin with the cell itself
        indices=np.concatenate([itself, indices], axis=1),
        distances=np.concatenate([np.zeros(itself.shape), distances], axis=1),
    )
    return float(scib_metrics.kbet(table, codes)[0])
