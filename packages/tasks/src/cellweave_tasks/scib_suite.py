"""The numbers of the package scib-metrics beside ours: ``pip install "cellweave-tasks[scib]"``."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellweave.evaluation.neighbours import within
from cellweave.records import Score
from cellweave_tasks.batches.methods import kept_state

__all__ = ["scib_scores"]

_NEIGHBOURS = 90


def scib_scores(
    points: np.ndarray, labels: np.ndarray, batches: np.ndarray | None, *, seed: int = 0
) -> list[Score]:
    """Return scores named ``scib:…``; one that says what to install where it is not."""
    from importlib.util import find_spec

    if find_spec("scib_metrics") is None:
        note = 'needs scib_metrics: pip install "cellweave-tasks[scib]"'
        return [Score(metric="scib:suite", value=None, note=note)]
    with kept_state():
        found = _computed(points, labels, batches, seed)
    return [Score(metric=f"scib:{k}", value=float(v), best=1.0) for k, v in found.items()]


def _computed(
    points: np.ndarray, labels: np.ndarray, batches: np.ndarray | None, seed: int
) -> dict[str, float]:
    import scib_metrics as scib
    from scib_metrics.nearest_neighbors import NeighborsResults

    k = min(_NEIGHBOURS, len(points)) - 1
    indices, distances = within(points, k, seed=seed)
    itself = np.arange(len(points))[:, None]
    # Its tables begin with the cell itself.
    near: Any = NeighborsResults(
        indices=np.concatenate([itself, indices], axis=1),
        distances=np.concatenate([np.zeros(itself.shape), distances], axis=1),
    )
    few = near.subset_neighbors(n=min(15, k))
    kmeans = scib.nmi_ari_cluster_labels_kmeans(points, labels)
    found = {
        "nmi_kmeans": kmeans["nmi"],
        "ari_kmeans": kmeans["ari"],
        "silhouette_label": scib.silhouette_label(points, labels),
        "clisi": scib.clisi_knn(near, labels),
        "graph_connectivity": scib.graph_connectivity(few, labels),
    }
    if batches is not None:
        middle = near.subset_neighbors(n=min(50, k))
        found |= {
            "isolated_labels": scib.isolated_labels(points, labels, batches),
            "silhouette_batch": scib.silhouette_batch(points, labels, batches),
            "bras": scib.bras(points, labels, batches),
            "ilisi": scib.ilisi_knn(near, batches),
            "kbet_per_label": scib.kbet_per_label(middle, batches, labels),
        }
    return found
