"""Unseen genes: graphs by hand, planted screens, what likeness brings and when it must not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.records import Embedding, Provenance
from cellweave_tasks.gene_sets import gene_sets_on
from cellweave_tasks.looping import closed_loop
from cellweave_tasks.perturbation import PerturbationTask
from cellweave_tasks.perturbation_data import Unit, noise_of
from cellweave_tasks.perturbation_graph import coexpression_graph, correlations, gene_set_graph
from cellweave_tasks.perturbation_kernels import _left_out, _Process, _Singles
from cellweave_tasks.perturbation_own_effect import OwnEffect
from cellweave_tasks.perturbation_similarity import likeness, likeness_groups, similarity_sweep
from cellweave_tasks.perturbation_splits import unseen_pairs, unseen_perturbations
from cellweave_tasks.screens import simulate_screen


@pytest.fixture(scope="module")
def screen():
    return simulate_screen(n_genes=160, n_perturbed=24, n_pairs=16, n_cells=25, n_control=200)


@pytest.fixture(scope="module")
def parts(screen):
    split = unseen_perturbations(screen, seed=1)
    return screen[split.train].copy(), screen[split.test].copy()


@pytest.fixture(scope="module")
def gmt(screen, tmp_path_factory):
    path = tmp_path_factory.mktemp("sets") / "programmes.gmt"
    lines = ["\t".join([k, "", *v]) for k, v in screen.uns["programmes"].items()]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_screen_is_what_it_says(screen):
    conditions = screen.obs["condition"]
    assert (conditions == "ctrl").sum() == 200
    assert conditions.nunique() == 1 + 24 + 16
    counts = screen.layers["counts"]
    assert (counts.data == np.round(counts.data)).all()
    again = simulate_screen(n_genes=160, n_perturbed=24, n_pairs=16, n_cells=25, n_control=200)
    assert (again.X != screen.X).nnz == 0
    knocked = screen[(conditions == "G3+ctrl").to_numpy(), "G3"].X.mean()
    assert knocked < 0.6 * screen[(conditions == "ctrl").to_numpy(), "G3"].X.mean()
    with pytest.raises(ConfigError, match=r"80 perturbed of 100 genes"):
        simulate_screen(n_genes=100, n_perturbed=80)


def test_correlations_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=(30, 7))
    values[:, 3] = 2.0
    found, plain = correlations(values), np.corrcoef(np.delete(values, 3, axis=1).T)
    np.fill_diagonal(plain, 0)
    assert np.delete(np.delete(found, 3, 0), 3, 1) == pytest.approx(plain)
    assert (found[3] == 0).all()


def test_correlations_do_not_depend_on_blocks_or_storage():
    values = np.random.default_rng(1).poisson(0.7, size=(2500, 6)).astype(np.float32)
    values[:, 2] = 3.0  # constant
    expected = np.nan_to_num(np.corrcoef(values[:, [0, 1, 3, 4, 5]].T)) - np.eye(5)
    for stored in (values, sp.csr_matrix(values)):
        found = correlations(stored)
        assert not found[2].any()
        assert np.allclose(np.delete(np.delete(found, 2, 0), 2, 1), expected, atol=1e-12)


def test_shared_sets_give_the_jaccard_index():
    sets = gene_sets_on(
        {"a": list("pqr"), "b": list("pq"), "c": list("st")}, np.array(list("pqrst")), min_genes=2
    )
    graph = gene_set_graph(sets)
    assert list(graph.names) == list("pqrst")
    plain = np.zeros((5, 5))
    plain[0, 1] = plain[1, 0] = 1.0  # p, q: both in a and b
    plain[0, 2] = plain[1, 2] = plain[2, 0] = plain[2, 1] = 0.5  # r: in a alone
    plain[3, 4] = plain[4, 3] = 1.0
    root = 1 / np.sqrt(plain.sum(axis=1))
    assert graph.step.toarray() == pytest.approx(root[:, None] * plain * root)
    hops = graph.hops(["p", "nothing"], 2)
    assert hops[0].toarray()[0].tolist() == [1, 0, 0, 0, 0]
    assert hops[2].toarray()[0] == pytest.approx((graph.step @ graph.step).toarray()[0])
    assert hops[2].toarray()[1].sum() == 0


def test_genes_keep_their_strongest_neighbours():
    rng = np.random.default_rng(0)
    drive = rng.normal(size=(200, 2))
    values = np.repeat(drive, 15, axis=1) + 0.3 * rng.normal(size=(200, 30))
    names = np.array([f"g{i}" for i in range(30)])
    graph = coexpression_graph(sp.csr_matrix(values), names, keep=names[:1], threshold=0.3)
    step = graph.step.toarray()
    assert (step[:15, 15:] == 0).all()
    assert (step[:15, :15] > 0).sum() == 15 * 14


def test_leaving_out_in_closed_form_is_leaving_out():
    rng = np.random.default_rng(0)
    rows, deltas = rng.normal(size=(8, 3)), rng.normal(size=(8, 5))
    penalty = rng.uniform(0.5, 2, 8)
    found = _left_out(rows @ rows.T, deltas, penalty)
    kernel = rows @ rows.T + 1e3
    for i in range(8):
        rest = np.delete(np.arange(8), i)
        inner = kernel[np.ix_(rest, rest)] + np.diag(penalty[rest])
        assert found[i] == pytest.approx(kernel[i, rest] @ np.linalg.solve(inner, deltas[rest]))


def test_noise_is_the_variance_of_a_mean():
    values = np.random.default_rng(0).normal(size=(12, 4))
    plain = values.var(axis=0, ddof=1).mean() / 12
    assert noise_of(values, np.arange(12)) == pytest.approx(plain)
    assert noise_of(sp.csr_matrix(values), np.arange(12)) == pytest.approx(plain)


@pytest.mark.parametrize("method", ["auto", "graph", "probe"])
def test_unseen_genes_are_told_from_those_like_them(parts, method):
    train, test = parts
    scores = PerturbationTask(method=method).fit(train).evaluate(test)
    ours, mean = (scores.value("pearson_delta", method=m) for m in (f"{method} on X", "mean"))
    assert ours > mean + 0.1
    assert scores.summary["headline"].startswith(f"{method} on X beats the mean of training")
    assert scores.summary["beats_mean"] is True
    groups = {s.group for s in scores.items}
    assert {"unseen single", "unlike training", "like training"} <= groups


def test_sets_and_embeddings_from_files(parts, gmt, tmp_path):
    train, test = parts
    by_sets = PerturbationTask(method="graph", gene_sets=gmt).fit(train).evaluate(test)
    assert by_sets.summary["difference_low"] > 0.1
    by_key = PerturbationTask(method="probe", gene_rep="X_gene").fit(train)
    path = tmp_path / "genes.npz"
    Embedding(
        values=train.varm["X_gene"], names=train.var_names.to_numpy(dtype=str),
        provenance=Provenance(component="test", version="0"),
    ).save(path)  # fmt: skip
    by_file = PerturbationTask(method="probe", gene_rep=str(path)).fit(train)
    assert np.allclose(by_key.predict(test).values, by_file.predict(test).values, atol=1e-5)
    assert by_key.evaluate(test).summary["difference_low"] > 0.05
    linear = PerturbationTask(method="linear", gene_rep="X_gene").fit(train).evaluate(test)
    assert linear.summary["difference_low"] > 0.05
    with pytest.raises(DataError, match=r"no 'X_genes'. Did you mean 'X_gene'"):
        PerturbationTask(method="probe", gene_rep="X_genes").fit(train)
    with pytest.raises(ConfigError, match=r"gene_rep is 'X_gene', which 'graph' does not use"):
        PerturbationTask(method="graph", gene_rep="X_gene")


def test_an_embedding_that_knows_nothing_gives_the_mean(parts):
    train, test = parts[0].copy(), parts[1]
    train.varm["noise"] = np.random.default_rng(3).normal(size=(train.n_vars, 6))
    task = PerturbationTask(method="probe", gene_rep="noise").fit(train)
    scores = task.evaluate(test)
    ours, mean = (
        scores.value("pearson_delta", method=m, group="unseen single")
        for m in ("probe on X", "mean")
    )
    assert ours > mean - 0.05
    singles = [c.predicted for c in task.changes(test) if "+" not in c.name]
    # All are the mean but for the gene knocked down itself.
    assert max((a != b).sum() for a in singles for b in singles) <= 2


def test_units_of_few_cells_pull_the_mean_less():
    rng = np.random.default_rng(0)
    deltas = np.concatenate([np.ones((6, 40)), rng.normal(0, 6, (2, 40))])
    noise = np.array([0.01] * 6 + [36.0] * 2)
    singles = _Singles(names=[f"g{i}" for i in range(8)], deltas=deltas, noise=noise)
    effect = OwnEffect(slope=0.0, levels=np.zeros(40), places={})
    process = _Process(singles, [], effect)
    weighed = ((process.expected("new") - 1) ** 2).mean()
    assert weighed < 0.2 * ((deltas.mean(axis=0) - 1) ** 2).mean()


@pytest.mark.parametrize("seen", [0, 1, 2])
def test_pairs_are_held_out_by_how_many_were_seen(screen, seen):
    split = unseen_pairs(screen, seen=seen, seed=0)
    conditions = screen.obs["condition"].to_numpy(dtype=str)
    train, test = set(conditions[split.train]), set(conditions[split.test])
    assert not train & test
    assert "ctrl" in train
    known = {g for c in train for g in c.split("+")} - {"ctrl"}
    assert all(sum(g in known for g in c.split("+")) == seen for c in test)
    scores = PerturbationTask(method="graph").fit(screen[split.train]).evaluate(screen[split.test])
    assert scores.value("pearson_delta", method="graph on X") > scores.value(
        "pearson_delta", method="mean"
    )


def test_pairs_that_cannot_be_held_out_are_refused(screen):
    with pytest.raises(DataError, match=r"seen is 3"):
        unseen_pairs(screen, seen=3)
    singles = screen[~screen.obs["condition"].str.fullmatch(r"G\d+\+G\d+").to_numpy()]
    with pytest.raises(DataError, match=r"0 pairs of 24 singles leave no pair with 1 seen"):
        unseen_pairs(singles, seen=1)


def test_likeness_is_the_largest_cosine():
    names = np.array(["a", "b", "c"])
    vectors = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    units = [Unit(("a",)), Unit(("a", "b")), Unit(("z",))]
    found = likeness(units, [Unit(("a",)), Unit(("c",))], names, vectors)
    centred = vectors - vectors.mean(axis=0)
    pair = centred[0] + centred[1]
    by_hand = pair @ centred[0] / np.linalg.norm(pair) / np.linalg.norm(centred[0])
    assert found[0] == pytest.approx(1)
    assert found[1] == pytest.approx(by_hand)
    assert np.isnan(found[2])
    groups = likeness_groups(np.linspace(0, 1, 9))
    assert [groups[k].sum() for k in ("unlike training", "between", "like training")] == [3, 3, 3]
    assert likeness_groups(np.ones(9)) == {}


def test_less_likeness_means_worse_scores(parts):
    train, test = parts
    found = similarity_sweep(lambda: PerturbationTask(method="graph"), train, test, drop=(0.0, 0.7))
    ours = [
        found.value("pearson_delta", method="graph on X", group=f"without {s} %") for s in (0, 70)
    ]
    assert ours[0] > ours[1] + 0.02
    area = found.value("auspc_pearson_delta", method="graph on X")
    assert area == pytest.approx(np.mean(ours))
    assert area > found.value("auspc_pearson_delta", method="mean")


def test_measured_perturbations_fold_in_and_help(screen):
    conditions = screen.obs["condition"].to_numpy(dtype=str)
    singles = [f"G{i}+ctrl" for i in range(24)]
    test = screen[np.isin(conditions, singles[18:])].copy()
    pool = screen[np.isin(conditions, singles[3:18])].copy()
    train = screen[np.isin(conditions, ["ctrl", *singles[:3]])].copy()
    found = closed_loop(lambda: PerturbationTask(method="graph"), train, pool, test, rounds=3)
    curve = [
        found.value("pearson_delta", method="graph on X", group=f"after {n}") for n in (0, 4, 8, 12)
    ]
    assert curve[-1] > curve[0] + 0.1
    assert len(found.summary["measured"]) == 3
    assert "after 12 measured perturbations were folded in" in found.summary["headline"]
    flat = [m for r in found.summary["measured"] for m in r]
    assert len(set(flat)) == 12
    again = closed_loop(
        lambda: PerturbationTask(method="graph"), train, pool, test, rounds=1, choose="random"
    )
    assert again.value("pearson_delta", method="graph on X", group="after 4") > curve[0] - 0.1
    with pytest.raises(
        DataError, match=r"perturbations are in train and in pool, e.g. 'G0 \| line'"
    ):
        closed_loop(PerturbationTask, train, screen, test)
    with pytest.raises(ConfigError, match=r"choose is 'unlik'.*Did you mean 'unlike'"):
        closed_loop(PerturbationTask, train, pool, test, choose="unlik")
