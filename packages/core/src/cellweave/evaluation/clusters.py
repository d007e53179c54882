"""Do clusters agree with types: ARI and NMI at the best Leiden resolution, 0.1 to 2.0.

Leiden (Traag et al. 2019) on the symmetric 15-nearest-neighbour graph of the joint embedding, by
igraph. Choosing the best resolution with the labels in sight flatters; it is the custom of the
field and is done alike for every method. Chance is 0: both measures are, or are used as if,
adjusted; NMI is normalised by the arithmetic mean of the entropies.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.cells import joint
from cellweave.evaluation.neighbours import within
from cellweave.records import Score

__all__ = ["RESOLUTIONS", "ClusterAgreement", "igraph_seed", "leiden", "neighbour_edges"]

RESOLUTIONS = tuple(round(0.1 * i, 1) for i in range(1, 21))


def neighbour_edges(indices: np.ndarray) -> np.ndarray:
    """Return each undirected edge of a neighbour table once, ``(n_edges, 2)``, smaller first."""
    n, k = indices.shape
    rows = np.repeat(np.arange(n), k)
    low, high = np.minimum(rows, indices.ravel()), np.maximum(rows, indices.ravel())
    return np.stack(np.divmod(np.unique(low * n + high), n), axis=1)


def leiden(
    edges: np.ndarray, n: int, *, resolutions: Sequence[float], seed: int = 0
) -> list[np.ndarray]:
    """Cluster one graph at each resolution; modularity, two passes, seeded."""
    from igraph import Graph

    graph = Graph(n=n, edges=edges)
    found = []
    for resolution in resolutions:
        with igraph_seed(seed):
            parts = graph.community_leiden(
                objective_function="modularity", resolution=resolution, n_iterations=2
            )
        found.append(np.asarray(parts.membership))
    return found


@contextmanager
def igraph_seed(seed: int) -> Iterator[None]:
    """Let igraph draw from a generator of ours, then from Python's, as it does by default."""
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)


class ClusterAgreement:
    """ARI and NMI of Leiden clusters with cell types, each at its best resolution.

    Parameters
    ----------
    n_neighbors
        Neighbours in the graph.
    max_cells
        With more cells, this many are drawn.
    """

    needs = ("labels",)
    metrics = ("ari", "nmi")

    def __init__(self, *, n_neighbors: int = 15, max_cells: int = 10_000) -> None:
        self.n_neighbors, self.max_cells = n_neighbors, max_cells

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return ARI and NMI, each with the resolution it was best at."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        cells = joint(data, max_cells=self.max_cells, with_labels=True)
        if len(cells.names) < 2:
            msg = "there is one type only"
            raise DataError(msg)
        k = min(self.n_neighbors, len(cells.points) - 1)
        edges = neighbour_edges(within(cells.points, k, seed=data.seed)[0])
        found = leiden(edges, len(cells.points), resolutions=RESOLUTIONS, seed=data.seed)
        scores = []
        for name, agree in zip(self.metrics, (adjusted_rand_score, normalized_mutual_info_score)):
            values = [float(agree(cells.labels, clusters)) for clusters in found]
            best = int(np.argmax(values))
            note = f"best of 20 Leiden resolutions: {RESOLUTIONS[best]}"
            note = "; ".join(part for part in (note, cells.note) if part)
            scores.append(Score(metric=name, value=values[best], best=1.0, chance=0.0, note=note))
        return scores
