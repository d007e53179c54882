"""What a fitted GLUE tells beyond its embedding."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from cellweave.errors import ConfigError, DataError
from cellweave.records import Provenance
from cellweave_glue.consistency import integration_consistency, link_correlations
from cellweave_glue.graph import GuidanceGraph
from cellweave_glue.inputs import InputSettings, collect
from cellweave_glue.regulation import (
    benjamini_hochberg,
    empirical_p,
    infer_regulation,
    shuffled_links,
)
from cellweave_glue.transfer import transfer_labels


def _graph(rng, n_genes=60, n_peaks=300, n_links=900):
    rows, cols = np.unique(rng.integers(0, [n_genes, n_peaks], (n_links, 2)), axis=0).T
    source, target = cols, rows + n_peaks
    n = n_genes + n_peaks
    loops = np.arange(n)
    k = len(rows)
    return GuidanceGraph(
        modalities=("atac", "rna"),
        features={
            "atac": np.array([f"p{i}" for i in range(n_peaks)]),
            "rna": np.array([f"g{i}" for i in range(n_genes)]),
        },
        sources=np.concatenate([source, target, loops]),
        targets=np.concatenate([target, source, loops]),
        weights=np.ones(2 * k + n, dtype=np.float32),
        signs=np.ones(2 * k + n, dtype=np.int8),
    )


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("n_models", [1, 3])
def test_p_values_are_uniform_when_features_are_shuffled(rng, alternative, n_models):
    # many graphs with one link a feature: links of one graph that share features are dependent,
    # and a Kolmogorov-Smirnov test of them together would be wrong, not the p-values
    found = []
    for _ in range(400):
        graph = _graph(rng, 5, 8, 6)
        vectors = [rng.normal(size=(13, 8)) + 1.5 for _ in range(n_models)]
        links = infer_regulation(graph, vectors, alternative=alternative, n_permutations=60, seed=1)
        found.append(links.pvalue[rng.integers(len(links.pvalue))])
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-3
    assert np.mean(np.array(found) < 0.05) < 0.09


def test_p_values_of_shuffled_links_are_uniform_against_a_background_only(two, two_links, quick):
    (links,) = two_links
    fits = [quick().fit(two, (shuffled_links(links, seed=s),)) for s in (1, 2)]
    calibrated = fits[0].regulatory_links(background=[fits[1]]).pvalue
    assert abs(np.mean(calibrated) - 0.5) < 0.1
    assert np.mean(calibrated < 0.05) < 0.15
    # the caveat: permuted vectors call most shuffled links significant, the graph alone does that
    assert np.mean(fits[0].regulatory_links().pvalue < 0.05) > 0.4
    with pytest.raises(ConfigError, match="2 background fits were given for 1 fits"):
        fits[0].regulatory_links(background=[fits[1], fits[1]])


def test_planted_links_are_found_and_p_is_never_zero(rng):
    graph = _graph(rng, 200, 1000, 1200)
    source, target, *_ = graph.links()
    vectors = rng.normal(size=(graph.n_vertices, 20))
    true = np.zeros(len(source), dtype=bool)
    true[np.unique(source, return_index=True)[1][:80]] = True
    vectors[source[true]] = vectors[target[true]] + rng.normal(size=(true.sum(), 20)) * 0.2
    links = infer_regulation(graph, [vectors])
    assert links.pvalue.min() >= 1 / (10_000 + len(source) + 1)
    assert (links.qvalue[true] < 0.05).mean() > 0.95
    assert (links.qvalue[~true] < 0.05).mean() < 0.02
    frame = links.to_frame()
    assert frame["pvalue"].is_monotonic_increasing
    assert set(frame["source_modality"]) == {"atac"}
    opposite = infer_regulation(graph, [vectors], alternative="less")
    assert (opposite.pvalue[true] > 0.95).all()


def test_empirical_p_by_counting(rng):
    null = np.sort(rng.normal(size=200).round(1))
    for score in (null[0] - 1, null[3], 0.0, null[-1], null[-1] + 1):
        above = (1 + (null >= score).sum()) / 201
        below = (1 + (null <= score).sum()) / 201
        p = {
            a: empirical_p(np.array([score]), null, a)[0] for a in ("greater", "less", "two-sided")
        }
        assert p["greater"] == pytest.approx(above)
        assert p["less"] == pytest.approx(below)
        assert p["two-sided"] == pytest.approx(min(1, 2 * min(above, below)))


def test_false_discovery_rates_equal_scipy(rng):
    p = rng.uniform(size=500) ** 2
    assert np.allclose(benjamini_hochberg(p), scipy.stats.false_discovery_control(p))


def test_unknown_alternative_is_refused(rng):
    with pytest.raises(ConfigError, match="alternative='both'; expected 'greater'"):
        infer_regulation(_graph(rng), [np.ones((360, 3))], alternative="both")


def test_link_correlations_equal_scipy(rng):
    profiles = rng.poisson(2, (25, 12)).astype(float)
    profiles[:, 3] = 1
    ours = link_correlations(profiles, np.array([0, 1, 3]), np.array([5, 6, 7]))
    for value, (i, j) in zip(ours, [(0, 5), (1, 6)]):
        expected = scipy.stats.spearmanr(profiles[:, i], profiles[:, j]).statistic
        assert value == pytest.approx(expected)
    assert np.isnan(ours[2])


def test_consistency_sees_truth_and_vanishes_when_cells_are_shuffled(two, two_links, rng):
    data, aligned, _ = collect(two, two_links, InputSettings(use_rep={}, likelihoods={}))
    from cellweave_glue.graph import build_graph

    graph = build_graph({m: d.features for m, d in data.items()}, aligned)
    truth = {m: two.mod[m].obsm["true_state"] for m in data}
    right = integration_consistency(truth, data, graph, sizes=(10, 20))
    wrong = {**truth, "atac": truth["atac"][rng.permutation(len(truth["atac"]))]}
    shuffled = integration_consistency(wrong, data, graph, sizes=(10, 20))
    assert right[20] > 0.15
    assert abs(shuffled[20]) < right[20] / 3
    assert set(integration_consistency(truth, data, graph, sizes=(10, 10_000))) == {10}


def _brute_shares(reference, codes, query, k):
    def graph(a, b):
        ua, ub = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        out = np.zeros((len(a), len(b)))
        order = np.argsort(-(ua @ ub.T), axis=1, kind="stable")[:, :k]
        np.put_along_axis(out, order, 1, 1)
        return out

    shared = graph(query, reference) @ graph(reference, reference).T
    shared = shared + graph(query, query) @ graph(reference, query).T
    jaccard = shared / (4 * k - shared)
    weight = jaccard @ np.eye(codes.max() + 1)[codes]
    return weight / weight.sum(1, keepdims=True)


def test_label_transfer_equals_brute_force(rng):
    codes = rng.integers(0, 3, 70)
    reference = (rng.normal(size=(70, 5)) + 3 * np.eye(5)[codes]).astype(np.float32)
    query = (rng.normal(size=(40, 5)) + 3 * np.eye(5)[rng.integers(0, 3, 40)]).astype(np.float32)
    made = Provenance(component="glue", version="0")
    names = np.array([f"q{i}" for i in range(40)])
    out = transfer_labels(
        reference,
        np.array(list("abc"))[codes],
        query,
        query_names=names,
        provenance=made,
        n_neighbours=12,
    )
    assert np.allclose(out.probabilities, _brute_shares(reference, codes, query, 12), atol=1e-6)
    assert np.array_equal(out.values, np.array(list("abc"))[out.probabilities.argmax(1)])
    assert out.confidence.max() <= 1
    with pytest.raises(DataError, match="0 known labels among 70"):
        transfer_labels(reference, [None] * 70, query, query_names=names, provenance=made)


def test_fit_transfers_decodes_and_scores_links(fitted, two):
    labels = two.mod["rna"].obs["cell_type"].to_numpy()
    moved = fitted.transfer_labels(labels, source="rna", target="atac")
    # trained for a second: a third is chance, 0.04 its standard error
    assert np.mean(moved.values == two.mod["atac"].obs["cell_type"].to_numpy()) > 0.42
    shares = fitted.decode("atac", "rna")
    assert shares.shape == (two.mod["atac"].n_obs, len(fitted.result().feature_names["rna"]))
    assert np.allclose(shares.sum(1), 1, atol=1e-4)
    frame = fitted.regulatory_links(alternative="two-sided").to_frame()
    assert {"source", "target", "score", "pvalue", "qvalue"} <= set(frame)
    assert frame["pvalue"].min() > 0
    with pytest.raises(DataError, match=r"not fitted on 'prot'\. It knows: atac, rna"):
        fitted.decode("rna", "prot")
    with pytest.raises(DataError, match="saw no labels, so there is no classifier"):
        fitted.classify("rna")
