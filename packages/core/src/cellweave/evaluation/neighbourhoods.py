"""What stands near what: mean average precision, graph connectivity, neighbours kept.

- MAP: of the 1 % nearest (self left out), average precision of hits of the own type; 0 without
  a hit; mean over cells.
- Graph connectivity: 15-nearest-neighbour graph; share of each type in its largest connected
  part; mean over types.
- Neighbour conservation: Jaccard index of the 1 % nearest before and after, in each modality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.cells import joint
from cellweave.evaluation.neighbours import percent_of, within
from cellweave.records import Score

__all__ = [
    "GraphConnectivity",
    "MeanAveragePrecision",
    "NeighbourConservation",
    "average_precision",
    "connected_shares",
    "jaccard",
]


def average_precision(hits: np.ndarray) -> np.ndarray:
    """Return the average precision of each row of hits, nearest first; 0 without a hit."""
    found = hits.cumsum(axis=1)
    precision = found / np.arange(1, hits.shape[1] + 1)
    return (precision * hits).sum(axis=1) / np.maximum(found[:, -1], 1)


def connected_shares(indices: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return, for each label code, the share of its cells in its largest connected part."""
    n, k = indices.shape
    graph = sp.csr_matrix(
        (np.ones(n * k, dtype=bool), (np.repeat(np.arange(n), k), indices.ravel())), shape=(n, n)
    )
    shares = []
    for code in range(labels.max() + 1):
        rows = np.flatnonzero(labels == code)
        parts = connected_components(graph[rows][:, rows], directed=False)[1]
        shares.append(np.bincount(parts).max() / len(rows))
    return np.asarray(shares)


def jaccard(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the Jaccard index of two neighbour tables, row by row; a row names a cell once."""
    k = before.shape[1]
    both = np.sort(np.concatenate([before, after], axis=1), axis=1)
    shared = (both[:, 1:] == both[:, :-1]).sum(axis=1)
    return shared / (2 * k - shared)


class MeanAveragePrecision:
    """MAP of cell types in the joint embedding.

    Parameters
    ----------
    max_cells
        With more cells, this many are drawn.
    """

    needs = ("labels",)
    metrics = ("map",)

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean over cells."""
        cells = joint(data, max_cells=self.max_cells, with_labels=True)
        k = percent_of(len(cells.points))
        indices, _ = within(cells.points, k, seed=data.seed)
        hits = cells.labels[indices] == cells.labels[:, None]
        # Among random neighbours every rank is a hit with the frequency of the cell's own type.
        chance = _chance_precision(np.bincount(cells.labels) / len(cells.labels), k)
        value = float(average_precision(hits).mean())
        return [Score(metric="map", value=value, best=1.0, chance=chance, note=cells.note)]


def _chance_precision(shares: np.ndarray, k: int, *, draws: int = 2_000) -> float:
    rng = np.random.default_rng(0)
    values = [average_precision(rng.random((draws, k)) < share).mean() for share in shares]
    return float(np.dot(shares, values))


class GraphConnectivity:
    """Share of each type that hangs together.

    Parameters
    ----------
    n_neighbors
        Neighbours in the graph.
    max_cells
        With more cells, this many are drawn.
    """

    needs = ("labels",)
    metrics = ("graph_connectivity",)

    def __init__(self, *, n_neighbors: int = 15, max_cells: int = 20_000) -> None:
        self.n_neighbors, self.max_cells = n_neighbors, max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean over types, then each type."""
        cells = joint(data, max_cells=self.max_cells, with_labels=True)
        k = min(self.n_neighbors, len(cells.points) - 1)
        shares = connected_shares(within(cells.points, k, seed=data.seed)[0], cells.labels)
        groups = {"": float(shares.mean())}
        groups |= {f"type:{name}": float(v) for name, v in zip(cells.names, shares)}
        return [
            Score(metric="graph_connectivity", value=v, best=1.0, group=g, note=cells.note)
            for g, v in groups.items()
        ]


class NeighbourConservation:
    """Neighbours that each modality keeps.

    Parameters
    ----------
    max_cells
        With more cells in a modality, this many are drawn.
    """

    needs = ("before",)
    metrics = ("neighbour_conservation",)

    def __init__(self, *, max_cells: int = 20_000) -> None:
        self.max_cells = max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean over modalities, then each modality."""
        values, chances, note = {}, [], ""
        rng = np.random.default_rng(data.seed)
        for modality in sorted(set(data.before) & set(data.embeddings)):
            before, after = data.before[modality], data.embeddings[modality]
            if len(before) > self.max_cells:
                rows = np.sort(rng.choice(len(before), self.max_cells, replace=False))
                before, after = before[rows], after[rows]
                note = f"on at most {self.max_cells} cells a modality, drawn at random"
            k = percent_of(len(before))
            pair = [within(p, k, seed=data.seed)[0] for p in (before, after)]
            values[modality] = float(jaccard(*pair).mean())
            share = k / (len(before) - 1)
            chances.append(share / (2 - share))
        if not values:
            msg = "no modality has coordinates from before the integration"
            raise DataError(msg)
        groups = {"": float(np.mean(list(values.values()))), **values}
        chance = float(np.mean(chances))
        return [
            Score(
                metric="neighbour_conservation",
                value=value,
                best=1.0,
                chance=chance,
                group=group,
                note=note,
            )
            for group, value in groups.items()
        ]
