"""The guidance graph and its sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellweave.errors import DataError
from cellweave.records import FeatureLinks
from cellweave_glue.edges import EdgeSampler
from cellweave_glue.graph import build_graph, reachable, torch_sparse


def _links(rows, cols, weights=None, signs=None, *, source="rna", target="atac", n=(4, 6)):
    k = len(rows)
    return FeatureLinks(
        source=source,
        target=target,
        source_features=np.array([f"{source}{i}" for i in range(n[0])]),
        target_features=np.array([f"{target}{i}" for i in range(n[1])]),
        rows=np.asarray(rows, dtype=np.int32),
        cols=np.asarray(cols, dtype=np.int32),
        weights=np.asarray([1.0] * k if weights is None else weights, dtype=np.float32),
        signs=np.asarray([1] * k if signs is None else signs, dtype=np.int8),
        evidence=np.array(["test"] * k),
    )


def _features(n_genes=4, n_peaks=6):
    return {
        "rna": np.array([f"rna{i}" for i in range(n_genes)]),
        "atac": np.array([f"atac{i}" for i in range(n_peaks)]),
    }


def test_toy_graph_has_links_both_ways_and_loops():
    graph = build_graph(_features(), [_links([0, 1, 3], [2, 2, 5], [1, 0.5, 0.25], [1, -1, 1])])
    assert graph.modalities == ("atac", "rna")
    assert (graph.n_vertices, graph.n_links, len(graph.sources)) == (10, 3, 16)
    dense = np.zeros((10, 10))
    dense[graph.sources, graph.targets] = graph.weights * graph.signs
    assert np.array_equal(dense, dense.T)
    assert np.array_equal(np.diag(dense), np.ones(10))
    assert dense[2, 7] == -0.5  # peak 2 and gene 1, which follows the six peaks


def test_graph_does_not_depend_on_direction_or_order():
    link = _links([0, 1, 3], [2, 2, 5], [1, 0.5, 0.25])
    one = build_graph(_features(), [link])
    two = build_graph(dict(reversed(_features().items())), [link.reversed()])
    assert np.array_equal(one.adjacency().toarray(), two.adjacency().toarray())


def test_evidence_given_twice_keeps_the_larger_weight():
    links = [_links([0], [2], [0.3]), _links([0], [2], [0.8])]
    assert build_graph(_features(), links).links()[2].tolist() == pytest.approx([0.8])


def test_propagation_divides_by_the_root_of_the_degree():
    graph = build_graph(_features(), [_links([0, 1], [2, 2], [1.0, 0.5])])
    row = graph.adjacency().toarray()[2]
    assert row[[2, 6, 7]] == pytest.approx(np.array([1, 1, 0.5]) / np.sqrt(2.5))
    values = torch.arange(10.0)[:, None]
    assert (torch_sparse(graph.adjacency(), device="cpu") @ values)[2, 0] == pytest.approx(
        row @ np.arange(10), rel=1e-6
    )


def test_negatives_are_never_edges_and_targets_follow_degree_without_loops():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [20, 50], (200, 2)), axis=0)
    graph = build_graph(_features(20, 60), [_links(*pairs.T, n=(20, 50))])
    sampler = EdgeSampler(graph, n_negatives=10, n_batches=4, device="cpu")
    edges = set(zip(graph.sources.tolist(), graph.targets.tolist(), graph.signs.tolist()))
    drawn = sampler.draw(torch.Generator().manual_seed(0))
    triples = list(zip(drawn.sources.tolist(), drawn.targets.tolist(), drawn.signs.int().tolist()))
    n = drawn.n_positive
    assert n == np.ceil(graph.weights.sum() / 4)
    assert set(triples[:n]) <= edges
    assert not set(triples[n:]) & edges
    assert len(triples) - n > 9.5 * n
    # ten peaks have no link: their loop must not make them targets
    lonely = set(range(50, 60))
    assert not lonely & set(drawn.targets[n:].tolist())


def test_graph_whose_every_pair_is_an_edge_still_samples():
    rows, cols = (a.ravel() for a in np.meshgrid(range(2), range(2)))
    features = {"rna": np.array(["rna0", "rna1"]), "atac": np.array(["atac0", "atac1"])}
    graph = build_graph(features, [_links(rows, cols, n=(2, 2))])
    drawn = EdgeSampler(graph, n_negatives=10, n_batches=1, device="cpu").draw(
        torch.Generator().manual_seed(0)
    )
    assert drawn.n_positive == 12


def test_reachable_follows_links_through_several_modalities():
    first = _links([0, 1], [3, 4])
    second = _links([3, 2], [1, 0], source="atac", target="prot", n=(6, 3))
    masks = {
        "rna": np.array([True, False, False, False]),
        "atac": np.zeros(6, dtype=bool),
        "prot": np.zeros(3, dtype=bool),
    }
    found = reachable(masks, [first, second])
    assert np.flatnonzero(found["atac"]).tolist() == [3]
    assert np.flatnonzero(found["prot"]).tolist() == [1]
    assert not masks["atac"].any()


def test_links_of_a_strange_modality_are_refused():
    with pytest.raises(DataError, match=r"name \['prot'\], which is not among"):
        build_graph(_features(), [_links([0], [0], target="prot")])
