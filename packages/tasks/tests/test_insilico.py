"""In-silico perturbation: edits by hand, a model whose answer is known, a real architecture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from cellweave.errors import ConfigError, DataError
from cellweave.records import Tokens
from cellweave_tasks.insilico import InSilicoTask
from cellweave_tasks.ranking import binary_scores, early_precision, win_shares
from cellweave_tasks.token_edits import edit_tokens, has_any

from .hand_made_model import DECOYS, DRIVERS, hand_model, two_states

FEATURES = np.arange(2, 9)


def tokens_of(*cells, values=None):
    return Tokens(
        offsets=np.concatenate([[0], np.cumsum([len(c) for c in cells])]),
        ids=np.concatenate(cells).astype(np.int32),
        values=None if values is None else np.concatenate(values).astype(np.float32),
        obs_names=np.array([f"c{i}" for i in range(len(cells))]),
    )


def cells_of(tokens):
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:])]


def test_edits_equal_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    cells = [
        np.concatenate([[0], rng.permutation(FEATURES)[: rng.integers(1, 8)], [1]])
        for _ in range(30)
    ]
    tokens = tokens_of(*cells)
    lost = edit_tokens(tokens, [3, 5], how="delete", features=FEATURES)
    assert cells_of(lost) == [[int(i) for i in c if i not in (3, 5)] for c in cells]
    longest = max(map(len, cells))
    plain = []
    for cell in cells:
        body = [int(i) for i in cell[1:-1] if i not in (3, 5)]
        plain.append([0, *[3, 5, *body][: longest - 2], 1])
    front = edit_tokens(tokens, [3, 5], how="overexpress", features=FEATURES)
    assert cells_of(front) == plain
    assert has_any(tokens, [3]).tolist() == [3 in c for c in cells]


def test_values_of_the_gene_become_the_largest():
    tokens = tokens_of([0, 2, 3], [0, 4, 5], values=[[-2.0, 7.0, 1.0], [-2.0, 3.0, 9.0]])
    front = edit_tokens(tokens, [3], how="overexpress", features=FEATURES)
    assert cells_of(front) == [[0, 3, 2], [0, 3, 4]]
    assert front.values.tolist() == [-2.0, 7.0, 7.0, -2.0, 9.0, 3.0]
    with pytest.raises(ConfigError, match=r"how is 'overexpres'.*Did you mean 'overexpress'"):
        edit_tokens(tokens, [3], how="overexpres", features=FEATURES)


def test_ranking_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, values = rng.random(200) < 0.2, np.round(rng.normal(size=200), 1)
    found = {s.metric: s.value for s in binary_scores(truth, values, method="m", seed=0)}
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert win_shares(truth, values).mean() == pytest.approx(found["auroc"], abs=1e-12)
    assert early_precision(truth, np.zeros(200)) == pytest.approx(truth.mean())
    assert early_precision(truth, truth.astype(float)) == 1
    k = truth.sum()
    assert early_precision(truth, np.arange(200.0)) == pytest.approx(truth[-k:].mean())


@pytest.mark.parametrize("score", ["cosine", "probe"])
@pytest.mark.parametrize("with_values", [False, True])
def test_drivers_are_found_and_decoys_are_not(score, with_values):
    model = hand_model(with_values=with_values)
    task = InSilicoTask(model=model, start="start", goal="goal", score=score).fit(two_states())
    scores = task.evaluate(two_states(seed=1))
    assert scores.value("auroc", method="delete in hand") > 0.95
    assert scores.value("auroc", method="expression difference") < 0.85  # decoys differ as much
    assert scores.summary["headline"].startswith("delete in hand beats the best baseline")
    table = task.table(two_states(seed=1))
    assert set(table.index[:6]) <= {f"g{i}" for i in DRIVERS}
    assert (table.loc[[f"g{i}" for i in DRIVERS], "q"] < 0.05).mean() > 0.7
    assert table["shift"].loc[[f"g{i}" for i in DECOYS]].max() < table["shift"].iloc[0]


def test_switching_on_is_the_other_way():
    task = InSilicoTask(model=hand_model(), how="overexpress", start="goal", goal="start")
    table = task.fit(two_states()).table(two_states(seed=1))
    assert set(table.index[:8]) == {f"g{i}" for i in DRIVERS}
    assert len(table) == 60


def test_the_shift_is_that_of_the_formula():
    model, train, test = hand_model(), two_states(), two_states(seed=1)
    task = InSilicoTask(model=model, start="start", goal="goal").fit(train)
    start, goal = (
        model.embed(train[train.obs["cell_type"] == s]).values.mean(axis=0)
        for s in ("start", "goal")
    )
    cells = test[(test.obs["cell_type"] == "start") & (np.asarray(test.X)[:, 3] > 0)].copy()
    before = model.embed(cells).values
    cells.X = np.where(np.arange(60) == 3, 0, cells.X)
    after = model.embed(cells).values

    def cosine(a, b):
        return (a @ b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b)

    shift = (
        cosine(after, goal) - cosine(before, goal) - cosine(after, start) + cosine(before, start)
    )
    assert task.table(test).loc["g3", "shift"] == pytest.approx(shift.mean(), abs=1e-6)
    assert task.table(test).loc["g3", "n_cells"] == cells.n_obs


def test_p_values_are_those_of_scipy_and_permutation_agrees():
    shifts = {
        g: np.random.default_rng(i).normal(2 * (g == "x"), 1, 40) for i, g in enumerate("abcdx")
    }
    ranks = InSilicoTask(model="m")
    pool = np.concatenate([shifts[g] for g in "abcd"])
    rng = np.random.default_rng(0)
    assert ranks._p_value("x", shifts["x"], shifts, rng) == mannwhitneyu(shifts["x"], pool).pvalue
    drawn = InSilicoTask(model="m", statistic="permutation")
    assert drawn._p_value("x", shifts["x"], shifts, rng) == pytest.approx(1 / 2001)
    null = [
        drawn._p_value(g, shifts[g], {k: v for k, v in shifts.items() if k != "x"}, rng)
        for g in "abcd"
    ]
    assert min(null) > 0.01


def test_combinations_impact_and_lists():
    model, train, test = hand_model(), two_states(), two_states(seed=1)
    pair = ["g0", "g1"]
    both = InSilicoTask(model=model, genes=pair, together=True, start="start", goal="goal").fit(
        train
    )
    each = InSilicoTask(model=model, genes=pair, start="start", goal="goal").fit(train)
    anchored = InSilicoTask(model=model, genes=["g1"], anchor=["g0"], start="start", goal="goal")
    assert list(both.table(test).index) == ["g0+g1"]
    assert both.table(test)["shift"].iloc[0] > each.table(test)["shift"].max()
    assert set(each.table(test).index) == set(pair)
    assert anchored.fit(train).table(test)["shift"].iloc[0] > each.table(test)["shift"].max()
    impact = InSilicoTask(model=model).fit(train).table(test)
    assert (impact["shift"] >= -1e-9).all()
    assert len(set(impact.index[:8]) & {f"g{i}" for i in DRIVERS}) > 5


def test_measured_perturbations_close_the_loop():
    """Few start and goal cells mislead a classifier; measured cells put it right."""
    train = two_states(n=60)
    rng = np.random.default_rng(5)
    model = hand_model()
    model.vectors[DECOYS, 2] = 3.0  # the model sees decoys; truly they do nothing
    alone = InSilicoTask(model=model, start="start", goal="goal", score="probe").fit(train)
    measured = two_states(seed=7, n=150)[:150].copy()  # start cells whose decoys were lost …
    x = np.asarray(measured.X).copy()
    x[:, DECOYS] = rng.poisson(1.0, x[:, DECOYS].shape)
    measured.X = x  # … and which stayed as they were
    import anndata

    looped = InSilicoTask(model=model, start="start", goal="goal", score="probe", max_cells=400)
    looped.fit(anndata.concat([train, measured], merge="same"))
    test = two_states(seed=9)
    before, after = (
        t.evaluate(test).value("auroc", method="delete in hand") for t in (alone, looped)
    )
    assert after > before + 0.05
    assert after > 0.95


def test_what_cannot_be_done_is_refused():
    model, train = hand_model(), two_states()
    with pytest.raises(ConfigError, match=r"start is 'a', goal None"):
        InSilicoTask(model=model, start="a")
    with pytest.raises(ConfigError, match=r"No model is named"):
        InSilicoTask(start="start", goal="goal").fit(train)
    with pytest.raises(ConfigError, match=r"object has no tokenizer and no embed"):
        InSilicoTask(model=object(), start="start", goal="goal").fit(train)
    with pytest.raises(DataError, match=r"has no 'star'. Did you mean 'start'"):
        InSilicoTask(model=model, start="star", goal="goal").fit(train)
    task = InSilicoTask(model=model, start="start", goal="goal", genes=["G3"]).fit(train)
    with pytest.raises(DataError, match=r"knows no gene 'G3'. Its genes look like 'g0'"):
        task.predict(train)
    task = InSilicoTask(model=model, start="start", goal="goal", min_cells=500).fit(train)
    with pytest.raises(DataError, match=r"No gene asked for is in 500 of 60 start cells"):
        task.predict(train)
    plain = two_states(seed=1)
    del plain.var["driver"]
    task = InSilicoTask(model=model, start="start", goal="goal").fit(train)
    with pytest.raises(DataError, match=r"`adata.var` has no 'driver'"):
        task.evaluate(plain)


def test_geneformer_sees_what_a_cell_without_the_gene_would_show():
    geneformer = pytest.importorskip("cellweave_geneformer")
    cells = two_states()
    cells.var_names = [f"ENSG{i:011d}" for i in range(60)]
    cells.obs["n_counts"] = np.asarray(cells.X).sum(axis=1)
    model = geneformer.GeneformerModel.untrained(
        cells, width=16, depth=2, heads=2, hidden=32, max_length=64
    )
    gene = cells.var_names[3]
    task = InSilicoTask(model=model, genes=[gene], n_random=2).fit(cells)
    has = cells[np.asarray(cells.X)[:, 3] > 0].copy()
    found = task.table(has).loc[gene, "shift"]
    before = model.embed(has).values.astype(float)
    has.X = np.where(np.arange(60) == 3, 0, has.X)
    after = model.embed(has).values.astype(float)
    cosine = (
        (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    )
    assert found == pytest.approx((1 - cosine).mean(), abs=1e-6)
    on = InSilicoTask(model=model, how="overexpress", genes=[gene], n_random=2).fit(cells)
    assert on.table(cells).loc[gene, "n_cells"] == 120
