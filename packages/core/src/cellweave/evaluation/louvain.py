"""Clusters as the zero-shot protocol has them (Kedzierska et al. 2025): Louvain, NMI, ARI.

Louvain (Blondel et al. 2008) on UMAP's weighted graph of 15 neighbours (the cell itself is one),
at 20 resolutions from 0.1 to 2.0; that of the best NMI is kept, the first of equals, and NMI and
ARI are both of that clustering. The graph is what ``scanpy.pp.neighbors`` makes. scanpy's igraph
flavour of Louvain does not hand the resolution on; here it counts.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from cellweave.evaluation.clusters import RESOLUTIONS, igraph_seed
from cellweave.evaluation.neighbours import within

__all__ = ["BestClusters", "best_louvain", "louvain", "umap_graph"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BestClusters:
    """The clustering that agrees best with labels."""

    clusters: np.ndarray
    resolution: float
    nmi: float
    ari: float


def best_louvain(
    points: np.ndarray, labels: np.ndarray, *, n_neighbors: int = 15, seed: int = 0
) -> BestClusters:
    """Cluster at every resolution and return the clustering of best NMI with ``labels``."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    graph = umap_graph(points, n_neighbors=n_neighbors, seed=seed)
    found = louvain(graph, seed=seed)
    agreement = [float(normalized_mutual_info_score(labels, clusters)) for clusters in found]
    best = int(np.argmax(agreement))
    return BestClusters(
        clusters=found[best],
        resolution=RESOLUTIONS[best],
        nmi=agreement[best],
        ari=float(adjusted_rand_score(labels, found[best])),
    )


def umap_graph(points: np.ndarray, *, n_neighbors: int = 15, seed: int = 0) -> sp.csr_matrix:
    """Return UMAP's weights between each cell and its neighbours, as one symmetric matrix."""
    from umap.umap_ import fuzzy_simplicial_set

    k = min(n_neighbors, len(points) - 1)
    others, apart = within(points, k - 1, seed=seed)
    itself = np.arange(len(points))[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = fuzzy_simplicial_set(
            sp.coo_matrix((len(points), 1)),  # only its number of rows is read
            k,
            np.random.RandomState(seed),
            "euclidean",
            knn_indices=np.concatenate([itself, others], axis=1),
            knn_dists=np.concatenate([np.zeros((len(points), 1)), apart], axis=1).astype("f4"),
        )[0]
    return sp.csr_matrix(graph)


def louvain(graph: sp.csr_matrix, *, seed: int = 0) -> list[np.ndarray]:
    """Cluster a weighted graph at each of the protocol's resolutions."""
    from igraph import Graph

    upper = sp.triu(graph, k=1).tocoo()
    edges = np.stack([upper.row, upper.col], axis=1)
    network = Graph(n=graph.shape[0], edges=edges)
    found = []
    for resolution in RESOLUTIONS:
        with igraph_seed(seed):
            parts = network.community_multilevel(weights=upper.data, resolution=resolution)
        found.append(np.asarray(parts.membership))
    return found
