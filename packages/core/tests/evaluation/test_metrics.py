"""Each metric against brute force or its library, and at planted extremes."""

import random

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from cellweave.contracts import Metric, MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.clusters import ClusterAgreement, leiden, neighbour_edges
from cellweave.evaluation.lisi import Lisi, lisi
from cellweave.evaluation.mixing import (
    EntropyMixing,
    SeuratAlignment,
    entropy_of_mixing,
    seurat_alignment,
)
from cellweave.evaluation.neighbourhoods import (
    GraphConnectivity,
    MeanAveragePrecision,
    NeighbourConservation,
    average_precision,
    connected_shares,
    jaccard,
)
from cellweave.evaluation.neighbours import within
from cellweave.evaluation.pairs import Foscttm, PartnerRank, foscttm, partner_ranks
from cellweave.evaluation.silhouettes import BatchSilhouette, Silhouette, separation
from cellweave.evaluation.specs import SPECS
from cellweave.evaluation.transfer import LabelTransfer, vote

N = 240
TYPES = np.repeat(["B", "NK", "T"], N // 3).astype(object)


def planted(*, noise=0.05, shift=0.0, seed=0):
    """Two modalities of the same cells, three well separated types."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(8 * np.eye(3, 6), N // 3, axis=0)
    base = centres + rng.normal(size=(N, 6))
    ids = np.array([f"c{i}" for i in range(N)], dtype=object)
    order = rng.permutation(N)
    other = base + noise * rng.normal(size=base.shape) + shift
    return MetricInput(
        embeddings={"rna": base, "prot": other[order]},
        labels={"rna": TYPES, "prot": TYPES[order]},
        pairing={"rna": ids, "prot": ids[order]},
        batches={"rna": np.array(["a", "b"], dtype=object)[rng.integers(0, 2, N)]},
        before={"rna": base, "prot": rng.normal(size=(N, 6))},
    )


def noise_only(seed=0):
    data = planted(seed=seed)
    rng = np.random.default_rng(seed + 1)
    random_points = {m: rng.normal(size=(N, 6)) for m in data.embeddings}
    return MetricInput(
        embeddings=random_points, labels=data.labels, pairing=data.pairing, before=data.before
    )


def whole(metric, data, name=None):
    return next(s for s in metric.compute(data) if not s.group and name in (None, s.metric)).value


def test_every_component_follows_the_contract():
    import importlib

    for spec in SPECS:
        module, _, attribute = spec.target.partition(":")
        metric = getattr(importlib.import_module(module), attribute)()
        assert isinstance(metric, Metric)
        assert spec.name.startswith("core.")


def test_foscttm_extremes_and_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 500, 8))
    assert foscttm(x, x) == (0.0, 0.0)
    assert np.allclose(foscttm(x, y), 0.5, atol=0.03)
    forward, backward = foscttm(x, y)
    d = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    assert forward == (d < np.diag(d)[:, None]).mean()
    assert backward == (d < np.diag(d)[None, :]).mean()
    assert whole(Foscttm(), planted(noise=0.0)) == 0.0
    assert whole(Foscttm(), noise_only()) == pytest.approx(0.5, abs=0.04)


def test_foscttm_uses_the_pairing_not_the_order():
    """Planted bug: rows taken as pairs although the ids say otherwise."""
    data = planted(noise=0.0)
    assert foscttm(data.embeddings["rna"], data.embeddings["prot"])[0] > 0.3
    assert whole(Foscttm(), data) == 0.0


def test_directions_partial_pairs_and_draws_are_told():
    data = planted(noise=0.5)
    ids = data.pairing["prot"].copy()
    ids[:40] = None
    cut = MetricInput(embeddings=data.embeddings, pairing={**data.pairing, "prot": ids}, seed=3)
    scores = Foscttm(max_queries=50).compute(cut)
    assert {s.group for s in scores} == {"", "prot->rna", "rna->prot"}
    assert "over the 200 cells that prot and rna share" in scores[0].note
    assert "counted for 50 of 200 cells" in scores[0].note
    assert scores[0].value == np.mean([s.value for s in scores[1:3]])


def test_too_few_or_repeated_pairs_are_told():
    data = planted()
    apart = {"rna": data.pairing["rna"], "prot": data.pairing["prot"] + "x"}
    with pytest.raises(DataError, match="prot and rna share 0 cells"):
        Foscttm().compute(MetricInput(embeddings=data.embeddings, pairing=apart))
    twice = {**data.pairing, "rna": np.full(N, "c1", dtype=object)}
    with pytest.raises(DataError, match="'c1' occurs more than once in 'rna'"):
        Foscttm().compute(MetricInput(embeddings=data.embeddings, pairing=twice))


def test_partner_ranks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 100, 4))
    d = ((x[:, None] - y[None]) ** 2).sum(-1)
    wanted = np.argsort(np.argsort(d, axis=1), axis=1)[np.arange(100), np.arange(100)] + 1
    np.testing.assert_array_equal(partner_ranks(x, y)[0], wanted)
    scores = {s.metric: s for s in PartnerRank().compute(planted(noise=0.0)) if not s.group}
    assert scores["matching_accuracy"].value == 1.0
    assert scores["partner_rank"].value == 1.0
    scores = {s.metric: s for s in PartnerRank().compute(noise_only()) if not s.group}
    assert scores["partner_rank"].value == pytest.approx(scores["partner_rank"].chance, rel=0.15)
    assert scores["matching_accuracy"].value < 0.03


def test_vote_prefers_the_nearest_on_ties():
    labels = np.array(["a", "b", "b", "a"], dtype=object)
    neighbours = np.array([[0, 1], [1, 0], [0, 1], [3, 2]])
    assert list(vote(labels, neighbours)) == ["a", "b", "a", "a"]
    assert list(vote(labels, np.array([[0, 1, 2]]))) == ["b"]


def test_label_transfer_equals_sklearn_and_extremes():
    data = planted(noise=6.0)
    found = {(s.metric, s.group): s.value for s in LabelTransfer(k=5).compute(data)}
    for name, k in (("label_transfer", 1), ("label_transfer_knn", 5)):
        model = KNeighborsClassifier(k, algorithm="brute").fit(
            data.embeddings["rna"], data.labels["rna"].astype(str)
        )
        wanted = model.score(data.embeddings["prot"], data.labels["prot"].astype(str))
        # sklearn breaks vote ties by label order, we by nearness: 1-NN is equal to the last digit
        assert found[name, "rna->prot"] == pytest.approx(wanted, abs=0 if k == 1 else 0.05)
    assert whole(LabelTransfer(), planted(noise=0.0)) == 1.0
    assert whole(LabelTransfer(), noise_only()) == pytest.approx(1 / 3, abs=0.08)
    assert ("label_transfer", "type:NK") in found


def test_cells_of_unknown_type_sit_out():
    data = planted(noise=0.0)
    labels = {m: v.copy() for m, v in data.labels.items()}
    labels["rna"][::2] = None
    labels["prot"][::3] = np.nan
    holes = MetricInput(embeddings=data.embeddings, labels=labels)
    assert whole(LabelTransfer(), holes) == 1.0
    assert "cells without a known type left out" in Silhouette().compute(holes)[0].note
    assert whole(ClusterAgreement(), holes) == pytest.approx(1.0)


def test_types_that_are_named_differently_are_not_scored_as_wrong():
    data = planted(noise=0.0)
    renamed = {
        "rna": data.labels["rna"],
        "prot": np.char.add("x ", data.labels["prot"].astype(str)),
    }
    with pytest.raises(DataError, match=r"share no type: 'prot' has 'x .*Name the types alike"):
        LabelTransfer().compute(MetricInput(embeddings=data.embeddings, labels=renamed))


def test_a_type_that_one_side_lacks_bounds_the_transfer():
    data = planted(noise=0.0)
    kept = data.labels["rna"] != "NK"
    lacking = MetricInput(
        embeddings={"rna": data.embeddings["rna"][kept], "prot": data.embeddings["prot"]},
        labels={"rna": data.labels["rna"][kept], "prot": data.labels["prot"]},
    )
    found = {(s.metric, s.group): s for s in LabelTransfer().compute(lacking)}
    score, share = found["label_transfer", "rna->prot"], (data.labels["prot"] != "NK").mean()
    assert score.value == pytest.approx(share)
    assert f"{share:.3f} at most" in score.note
    assert found["label_transfer", "prot->rna"].note == ""


def test_clusters_extremes_and_no_global_state():
    state = random.getstate()
    good = {s.metric: s.value for s in ClusterAgreement().compute(planted())}
    assert good == {"ari": pytest.approx(1.0), "nmi": pytest.approx(1.0)}
    bad = {s.metric: s.value for s in ClusterAgreement().compute(noise_only())}
    assert bad["ari"] < 0.05
    assert bad["nmi"] < 0.15
    assert random.getstate() == state
    edges = neighbour_edges(within(planted().embeddings["rna"], 15)[0])
    first, second = (leiden(edges, N, resolutions=[1.0], seed=7)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert random.getstate() == state


def test_neighbour_edges_once_each():
    edges = neighbour_edges(np.array([[1], [0], [0]]))
    np.testing.assert_array_equal(edges, [[0, 1], [0, 2]])


def test_silhouettes_equal_sklearn_and_extremes():
    data = planted(noise=1.0)
    x, labels = data.embeddings["rna"], data.labels["rna"].astype(str)
    assert separation(x, labels) == pytest.approx((silhouette_score(x, labels) + 1) / 2, abs=1e-9)
    scores = {s.metric: s.value for s in Silhouette().compute(planted()) if not s.group}
    assert scores["asw_type"] > 0.75
    assert scores["asw_modality"] > 0.95
    apart = {s.metric: s.value for s in Silhouette().compute(planted(shift=500.0)) if not s.group}
    assert apart["asw_modality"] < 0.05
    assert whole(BatchSilhouette(), planted()) > 0.95


def test_alignment_and_entropy_extremes():
    assert whole(SeuratAlignment(), planted(noise=1.0)) > 0.9
    assert whole(SeuratAlignment(), planted(shift=500.0)) == 0.0
    assert whole(EntropyMixing(), planted(noise=1.0)) > 0.85
    assert whole(EntropyMixing(), planted(shift=500.0)) == 0.0
    groups = np.repeat([0, 1], 50)
    even = np.tile(np.r_[0:5, 50:55], (100, 1))
    # natural over base-2 logarithms, the known trap, would give 0.693 here
    np.testing.assert_allclose(entropy_of_mixing(groups, even), 1.0)
    rare = np.repeat([0, 1], [90, 10])  # shares as in the whole count as perfect mixing
    np.testing.assert_allclose(entropy_of_mixing(rare, np.tile(np.r_[0:9, 90], (100, 1))), 1.0)


def test_alignment_by_hand():
    rng = np.random.default_rng(0)
    points, groups = rng.normal(size=(300, 3)), np.repeat([0, 1, 2], 100)
    k = 3
    d = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.fill_diagonal(d, np.inf)
    same = (groups[np.argsort(d, axis=1)[:, :k]] == groups[:, None]).sum(1).mean()
    assert seurat_alignment(points, groups) == pytest.approx(min(1, (k - same) * 3 / (k * 2)))


def test_average_precision_equals_sklearn_and_definition():
    rng = np.random.default_rng(0)
    hits = rng.random((40, 12)) < 0.4
    hits[0] = False
    wanted = [average_precision_score(row, -np.arange(12)) if row.any() else 0.0 for row in hits]
    np.testing.assert_allclose(average_precision(hits), wanted)
    assert whole(MeanAveragePrecision(), planted()) == 1.0
    score = MeanAveragePrecision().compute(noise_only())[0]
    assert score.value == pytest.approx(score.chance, abs=0.06)


def test_graph_connectivity():
    chain = np.array([[1], [0], [3], [2]])
    np.testing.assert_allclose(connected_shares(chain, np.array([0, 0, 0, 1])), [2 / 3, 1.0])
    assert whole(GraphConnectivity(), planted()) == 1.0
    torn = whole(GraphConnectivity(), planted(shift=500.0))  # each type falls into two halves
    assert torn == pytest.approx(0.5)


def test_jaccard_and_conservation():
    np.testing.assert_allclose(jaccard(np.array([[1, 2]]), np.array([[2, 3]])), [1 / 3])
    scores = {s.group: s for s in NeighbourConservation().compute(planted())}
    assert scores["rna"].value == 1.0
    assert scores["prot"].value < 0.1
    assert scores[""].value == pytest.approx((scores["rna"].value + scores["prot"].value) / 2)


def test_lisi_extremes_and_weights():
    data = planted(noise=1.0)
    scores = {s.metric: s for s in Lisi().compute(data)}
    assert scores["ilisi_modality"].value > 0.8
    assert scores["clisi_type"].value > 0.9
    apart = {s.metric: s for s in Lisi().compute(planted(shift=500.0))}
    assert apart["ilisi_modality"].value == pytest.approx(0.0, abs=1e-6)
    # equal distances: equal weights, so LISI is the inverse Simpson index of the counts
    codes = np.array([0, 0, 0, 1])
    got = lisi(codes, np.tile(np.arange(4), (4, 1)), np.ones((4, 4)), perplexity=4.0)
    np.testing.assert_allclose(got, 1 / (0.75**2 + 0.25**2))


def test_lisi_weights_reach_the_perplexity():
    from cellweave.evaluation.lisi import _weights

    distances = np.sort(np.random.default_rng(0).gamma(2.0, size=90))
    weights = _weights(distances, np.log(30.0))
    assert np.exp(-(weights * np.log(weights)).sum()) == pytest.approx(30.0, rel=1e-4)


def test_large_data_are_drawn_and_said():
    data = planted()
    for metric in (
        Silhouette(max_cells=100),
        EntropyMixing(max_cells=100),
        MeanAveragePrecision(max_cells=100),
        GraphConnectivity(max_cells=100),
        SeuratAlignment(max_cells=100),
        ClusterAgreement(max_cells=100),
    ):
        assert "on 100 of 480 cells, drawn at random" in metric.compute(data)[0].note
