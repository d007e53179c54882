"""Clusters of the zero-shot protocol: its graph, its resolutions, its choice."""

import random

import numpy as np
import pytest
from igraph import Graph
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from cellweave.evaluation.clusters import RESOLUTIONS
from cellweave.evaluation.louvain import best_louvain, louvain, umap_graph

TYPES = np.repeat(["B", "NK", "T"], 50)


def islands(gap=6.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(150, 4)) + gap * np.repeat(np.eye(4)[:3], 50, axis=0)


def test_graph_is_that_of_scanpy():
    sc = pytest.importorskip("scanpy", reason="scanpy is not installed")
    anndata = pytest.importorskip("anndata")
    points = islands().astype("f4")
    adata = anndata.AnnData(points)
    sc.pp.neighbors(adata, n_neighbors=15, use_rep="X")
    assert abs(umap_graph(points) - adata.obsp["connectivities"]).max() < 1e-5


def test_resolution_counts_and_seed_decides():
    graph = umap_graph(islands(gap=2.0))
    drawn = random.getstate()
    found = louvain(graph, seed=1)
    assert len(found) == len(RESOLUTIONS) == 20
    assert found[-1].max() > found[0].max()
    assert all(np.array_equal(a, b) for a, b in zip(found, louvain(graph, seed=1)))
    assert random.getstate() == drawn
    upper = np.argwhere(np.triu(graph.toarray(), 1))
    network = Graph(n=150, edges=upper)
    weights = [graph[i, j] for i, j in upper]
    scores = [network.modularity(part, weights=weights) for part in found]
    assert max(scores) > 0.3


def test_the_best_is_the_first_of_best_nmi():
    points = islands(gap=2.0)
    best = best_louvain(points, TYPES)
    found = louvain(umap_graph(points))
    nmi = [normalized_mutual_info_score(TYPES, clusters) for clusters in found]
    assert best.nmi == max(nmi)
    assert best.resolution == RESOLUTIONS[int(np.argmax(nmi))]
    assert best.ari == adjusted_rand_score(TYPES, found[int(np.argmax(nmi))])


def test_planted_islands_are_found_and_noise_is_not():
    assert best_louvain(islands(), TYPES).nmi == pytest.approx(1)
    shuffled = np.random.default_rng(0).permutation(TYPES)
    assert best_louvain(islands(), shuffled).ari < 0.1
