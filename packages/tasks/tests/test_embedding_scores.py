"""The scorers of integration against brute force, closed forms, and planted extremes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import pearsonr, spearmanr

from cellweave.errors import DataError
from cellweave_tasks.embedding_scores import embedding_scores, variance_of_batches
from cellweave_tasks.ontology import Ontology
from cellweave_tasks.rogi import label_roughness, roughness
from cellweave_tasks.scgraph import (
    TypeDistances,
    batch_consensus,
    column_agreement,
    embedding_distances,
    ontology_distances,
)

TYPES = np.repeat(["a", "b", "c", "d"], 60)
PLACES = np.array([[0.0, 0, 0], [1, 0, 0], [4, 0, 1], [9, 3, 0]])


def islands(noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    return np.repeat(PLACES, 60, axis=0) + noise * rng.normal(size=(240, 3))


# -- ROGI ------------------------------------------------------------------------------------


def brute_roughness(points, y, min_step=0.01):
    """The definition, cluster by cluster."""
    y = (y - y.min()) / (y.max() - y.min())
    gaps = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in points] for a in points])
    gaps /= np.sqrt((np.ptp(points, axis=0) ** 2).sum())
    tree = linkage(gaps[np.triu_indices(len(points), 1)], method="complete")
    steps, last = [0.0], 0.0
    for height in sorted(tree[:, 2]):
        if height - last >= min_step and height < 1:
            steps.append(height)
            last = height
    steps.append(1.0)
    spread = []
    for t in steps:
        if t == 0:
            spread.append(2 * np.std(y))
        elif t == 1:
            spread.append(0.0)
        else:
            groups = fcluster(tree, t, criterion="distance")
            means = np.array([y[groups == g].mean() for g in groups])
            spread.append(2 * np.sqrt(((means - y.mean()) ** 2).mean()))
    area = sum((steps[i + 1] - steps[i]) * (spread[i] + spread[i + 1]) / 2
               for i in range(len(steps) - 1))  # fmt: skip
    return spread[0] - area


@pytest.mark.parametrize("seed", [0, 1])
def test_roughness_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    points, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    assert roughness(points, y) == pytest.approx(brute_roughness(points, y), abs=1e-12)


def test_roughness_of_two_far_points_groups_is_small_and_of_noise_large():
    rng = np.random.default_rng(0)
    line = np.linspace(0, 1, 100)[:, None]
    smooth, rough = roughness(line, line[:, 0]), roughness(line, rng.permutation(line[:, 0]))
    assert smooth < 0.5 * rough
    assert roughness(line, np.ones(100)) == 0


def test_label_roughness_is_the_mean_over_types_and_ranks_embeddings():
    points = islands()
    each = [roughness(points, (t == TYPES).astype(float)) for t in "abcd"]
    assert label_roughness(points, TYPES) == pytest.approx(np.mean(each), abs=1e-12)
    shuffled = np.random.default_rng(0).permutation(TYPES)
    assert label_roughness(points, TYPES) < label_roughness(points, shuffled) - 0.2


def test_roughness_refuses_nan():
    with pytest.raises(DataError, match="some are NaN"):
        roughness(np.zeros((3, 2)), np.array([0, 1, np.nan]))


# -- scGraph ---------------------------------------------------------------------------------


def test_distances_are_between_trimmed_means():
    points = islands()
    points[0] = 1e6  # a tail, which is cut
    found = embedding_distances(points, TYPES)
    true = np.sqrt(((PLACES[:, None] - PLACES[None]) ** 2).sum(axis=2))
    assert np.allclose(found.values, true / true.max(axis=0), atol=0.03)
    assert found.types == ("a", "b", "c", "d")


def test_types_of_few_cells_are_left_out():
    assert embedding_distances(islands()[:125], TYPES[:125]).types == ("a", "b")


def expression(seed=0):
    """Cells of two batches whose genes are a random map of the places of their types."""
    rng = np.random.default_rng(seed)
    genes = rng.normal(size=(3, 30))
    labels, batches = np.tile(TYPES, 2), np.repeat(["x", "y"], 240)
    points = np.tile(np.repeat(PLACES, 60, axis=0), (2, 1))
    values = points @ genes + 0.05 * rng.normal(size=(480, 30)) + 3.0 * (batches == "y")[:, None]
    return values, points + 0.01 * rng.normal(size=points.shape), labels, batches


def test_consensus_by_hand_over_batches_and_missing_pairs():
    values, _, labels, batches = expression()
    keep = ~((batches == "x") & (labels == "d")) & ~((batches == "y") & (labels == "a"))
    found = batch_consensus(values[keep], labels[keep], batches[keep])
    tables = []
    for batch in "xy":
        rows = keep & (batches == batch)
        centred = values[rows] - values[rows].mean(axis=0)
        axes = centred @ np.linalg.svd(centred, full_matrices=False)[2][:10].T
        tables.append(embedding_distances(axes, labels[rows]))
    assert np.isnan(found.values[0, 3])
    assert np.isnan(found.values[3, 0])
    both = [t.values[np.ix_([t.types.index("b"), t.types.index("c")],
                            [t.types.index("b"), t.types.index("c")])] for t in tables]  # fmt: skip
    assert np.allclose(found.values[1:3, 1:3], np.mean(both, axis=0), atol=1e-6)


@pytest.mark.parametrize("how", ["pearson", "spearman", "weighted"])
def test_true_geometry_scores_one_and_a_turned_one_less(how):
    values, points, labels, batches = expression()
    wanted = batch_consensus(values, labels, batches)
    good = column_agreement(embedding_distances(points, labels), wanted, how=how)
    order = np.array([2, 3, 0, 1])  # near types put far apart
    wrong = np.tile(np.repeat(PLACES[order], 60, axis=0), (2, 1))
    bad = column_agreement(embedding_distances(wrong, labels), wanted, how=how)
    assert good > 0.9
    assert bad < good - 0.3


def test_agreement_is_scipys_per_column():
    rng = np.random.default_rng(0)
    a, b = (np.abs(rng.normal(size=(5, 5))) + 0.1 for _ in range(2))
    b[0, 2] = np.nan
    names = tuple("abcde")
    tables = TypeDistances(types=names, values=a), TypeDistances(types=names, values=b)
    for how, scipys in (("pearson", pearsonr), ("spearman", spearmanr)):
        each = []
        for t in range(5):
            known = np.isfinite(b[:, t])
            each.append(scipys(a[known, t], b[known, t])[0])
        assert column_agreement(*tables, how=how) == pytest.approx(np.mean(each), abs=1e-12)
    each = []
    for t in range(5):
        known = np.isfinite(b[:, t]) & (np.arange(5) != t)
        covariance = np.cov(a[known, t], b[known, t], aweights=1 / b[known, t])
        each.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    assert column_agreement(*tables, how="weighted") == pytest.approx(np.mean(each), abs=1e-12)


def test_small_batches_are_told():
    values, _, labels, batches = expression()
    with pytest.raises(DataError, match="no batch has 1000 cells"):
        batch_consensus(values, labels, batches, min_batch=1000)


# -- the ontology ------------------------------------------------------------------------------

TREE = Ontology(
    {
        "CL:0": (),
        "CL:1": ("CL:0",),
        "CL:2": ("CL:0",),
        "CL:3": ("CL:1",),
        "CL:4": ("CL:1",),
        "CL:5": ("CL:2",),
        "CL:9": (),
        "GO:1": ("CL:0",),
    }
)
TERMS = {"helper": "CL:3", "killer": "CL:4", "neuron": "CL:5"}


def test_walk_is_its_closed_form():
    found = ontology_distances(TREE, TERMS)
    n = 7  # the terms of CL, without GO
    nodes = [f"CL:{i}" for i in (0, 1, 2, 3, 4, 5, 9)]
    graph = np.zeros((n, n))
    for a, parents in TREE.parents.items():
        for b in parents:
            if a in nodes:
                graph[nodes.index(a), nodes.index(b)] = graph[nodes.index(b), nodes.index(a)] = 1
    graph[6, 6] = 1
    walk = graph / graph.sum(axis=1, keepdims=True)
    state = 0.7 * np.linalg.inv(np.eye(n) - 0.3 * walk)
    logs = np.log(state + 1 / n**2) - np.log(1 / n**2)
    left, sizes, _ = np.linalg.svd(logs)
    spots = left * np.sqrt(sizes)
    at = [nodes.index(TERMS[t]) for t in found.types]
    true = np.sqrt(((spots[at][:, None] - spots[at][None]) ** 2).sum(axis=2))
    assert np.allclose(found.values, true, atol=2e-3)


def test_sisters_are_nearer_than_cousins_and_weights_count():
    found = ontology_distances(TREE, TERMS)
    assert found.types == ("helper", "killer", "neuron")
    assert found.values[0, 1] < found.values[0, 2]
    heavy = ontology_distances(TREE, TERMS, weights={("CL:3", "CL:1"): 10.0})
    assert not np.allclose(heavy.values, found.values, atol=1e-3)


# -- all of one embedding ----------------------------------------------------------------------


def test_batch_variance_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    points, batches = rng.normal(size=(90, 6)), np.repeat(["x", "y", "z"], 30)
    points[:30, 0] += 3
    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    scores, share = left * sizes, sizes**2 / (sizes**2).sum()
    design = (batches[:, None] == np.array(["x", "y", "z"])).astype(float)
    total = 0.0
    for k in range(6):
        fit = design @ np.linalg.lstsq(design, scores[:, k], rcond=None)[0]
        total += share[k] * (1 - ((scores[:, k] - fit) ** 2).sum() / (scores[:, k] ** 2).sum())
    assert variance_of_batches(points, batches) == pytest.approx(total, abs=1e-5)


def by_name(points, labels, batches):
    return {s.metric: s for s in embedding_scores(points, labels, batches, method="m")}


def test_planted_extremes():
    _, points, labels, batches = expression()
    mixed = by_name(points, labels, batches)
    for name in ("nmi", "ari", "graph_connectivity", "clisi_type"):
        assert mixed[name].value == pytest.approx(1, abs=1e-6), name
    assert mixed["ilisi_batch"].value > 0.85
    assert mixed["pcr_batch"].value < 0.01
    apart = by_name(points + 50.0 * (batches == "y")[:, None], labels, batches)
    assert apart["ilisi_batch"].value < 0.01
    assert apart["pcr_batch"].value > 0.9
    assert apart["avg_batch"].value < mixed["avg_batch"].value - 0.3
    chance = by_name(points, np.random.default_rng(0).permutation(labels), batches)
    assert chance["ari"].value < 0.05
    assert chance["avg_bio"].value < 0.3


def test_means_are_of_their_parts_and_absent_parts_are_told():
    _, points, labels, batches = expression()
    found = {k: s.value for k, s in by_name(points, labels, batches).items()}
    assert found["avg_bio"] == np.mean([found["nmi"], found["ari"], found["asw_type"]])
    assert found["avg_batch"] == np.mean([found["asw_batch"], found["graph_connectivity"]])
    bio = np.mean([found[k] for k in ("nmi", "ari", "asw_type", "clisi_type")])
    batch = np.mean([found[k] for k in ("asw_batch", "graph_connectivity", "ilisi_batch")])
    assert found["overall"] == pytest.approx(0.6 * bio + 0.4 * batch)
    alone = by_name(points, labels, None)
    assert alone["overall"].value is None
    assert alone["avg_batch"].note == "needs asw_batch"
    assert alone["pcr_batch"].note == "there is one batch"
