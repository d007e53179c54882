"""Perturbations: planted responses, scores by hand, splits that leak and are refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, ttest_ind

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.perturbation import PerturbationTask
from cellweave_tasks.perturbation_data import Unit, parse_condition
from cellweave_tasks.perturbation_models import BASELINES
from cellweave_tasks.perturbation_scores import (
    e_distance,
    ranks_of_own,
    response_scores,
    top_genes,
)
from cellweave_tasks.perturbation_splits import unseen_context, unseen_perturbations

from .planted_perturbations import perturbed_cells

SINGLES = ["ctrl", *(f"G{i}+ctrl" for i in range(5))]


def test_conditions_are_read_in_any_order():
    assert parse_condition("ctrl", "ctrl") == ()
    assert parse_condition("ctrl+B", "ctrl") == parse_condition("B+ctrl", "ctrl") == ("B",)
    assert parse_condition("B+A", "ctrl") == ("A", "B")
    assert Unit(("A", "B"), "T").name == "A+B | T"


def test_scores_equal_their_definitions():
    rng = np.random.default_rng(0)
    said, true, top = rng.normal(size=50), rng.normal(size=50), np.arange(20)
    found = response_scores(said, true, top)
    assert found["pearson_delta"] == pytest.approx(pearsonr(said, true)[0], abs=1e-12)
    assert found["pearson_delta_top20"] == pytest.approx(pearsonr(said[:20], true[:20])[0])
    assert found["mse"] == pytest.approx(np.mean((said - true) ** 2))
    assert found["direction_top20"] == np.mean((said[:20] > 0) == (true[:20] > 0))
    left, right = rng.normal(size=(30, 9)), rng.normal(size=(40, 9)) + 1
    t = ttest_ind(left, right, equal_var=False).statistic
    assert set(top_genes(left, right, 4)) == set(np.argsort(-np.abs(t * np.sqrt(1)))[:4])


def test_planted_and_chance_predictions_reach_the_ends():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(40, 30))
    perfect = response_scores(true[0], true[0], np.arange(20))
    assert perfect["pearson_delta"] == pytest.approx(1)
    assert perfect["mse"] == 0
    assert perfect["direction_top20"] == 1
    assert response_scores(np.zeros(30), true[0], np.arange(20))["pearson_delta"] == 0
    assert (ranks_of_own(true, true) == 0).all()
    assert ranks_of_own(np.tile(true.mean(axis=0), (40, 1)), true).mean() == pytest.approx(0.5)
    assert abs(ranks_of_own(rng.normal(size=(40, 30)), true).mean() - 0.5) < 0.12
    # One prediction for all, equally far from all truths, is worth nothing.
    assert (ranks_of_own(np.zeros((3, 3)), np.eye(3)) == 0.5).all()


def test_energy_distance_is_that_of_a_plain_sum():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 2
    across = np.mean([np.linalg.norm(a - b) for a in x for b in y])
    inside = [
        np.mean([np.linalg.norm(a - b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])
        for z in (x, y)
    ]
    assert e_distance(x, y) == pytest.approx(2 * across - sum(inside))
    assert abs(e_distance(rng.normal(size=(400, 3)), rng.normal(size=(400, 3)))) < 0.05


def test_pairs_add_up_and_the_mean_does_not():
    train = perturbed_cells(SINGLES)
    test = perturbed_cells(["G0+G1", "G3+G2"], seed=1)
    task = PerturbationTask(method="latent_shift").fit(train)
    scores = task.evaluate(test)
    assert scores.value("pearson_delta", method="additive") > 0.97
    assert scores.value("pearson_delta", method=task.name) > 0.97
    assert scores.value("pearson_delta", method="mean") < 0.8
    assert scores.value("rank_of_own", method="additive") == 0
    assert scores.value("rank_of_own", method="mean") == 0.5
    assert scores.value("pearson_delta", method="no_change") == 0
    assert {s.method for s in scores.items} == {task.name, *BASELINES}
    assert "combo seen 2" not in {s.group for s in scores.items}  # one kind only: no groups


def test_the_summary_says_first_that_the_mean_is_not_beaten():
    train = perturbed_cells(["ctrl", "G1+ctrl"])
    test = perturbed_cells(["ctrl", "G1+ctrl"], contexts=("t1",), seed=1)
    task = PerturbationTask(method="no_change").fit(train)
    summary = task.evaluate(test).summary
    assert next(iter(summary)) == "headline"
    assert "no_change on X does NOT beat the mean of training" in summary["headline"]
    assert summary["beats_mean"] is False


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    gaps = [paired_difference(rng.normal(0.3, 1, 40), np.zeros(40), seed=i) for i in range(100)]
    assert sum(g.low <= 0.3 <= g.high for g in gaps) > 85
    doubt = paired_difference(np.array([0.1, -0.1, 0.2, -0.15, 0.05]), np.zeros(5))
    assert "interval holds 0" in difference_sentence(doubt, "a", "b", "m")
    assert paired_difference(np.ones(2), np.zeros(2)).low is None


def test_contexts_alike_weigh_more():
    """Two cell types respond one way, two the other; the mean is right for none."""
    strong = perturbed_cells(["ctrl", "G0"], contexts=("t0", "t1", "t2", "t3"), seed=0)
    x = np.asarray(strong.X)
    types, moved = strong.obs["cell_type"].to_numpy(), strong.obs["condition"].to_numpy() != "ctrl"
    near = np.isin(types, ["t0", "t1"])
    x[:, 50:60] = np.where(near[:, None], 6.0, 0.0)  # what makes t0 and t1 alike
    x[near & moved, 20:30] += 2
    x[~near & moved, 30:40] += 2
    strong.X = x
    split = unseen_context(strong, "t1")
    assert set(strong.obs["condition"].iloc[split.test]) == {"G0"}
    task = PerturbationTask().fit(strong[split.train])
    scores = task.evaluate(strong[split.test])
    named = PerturbationTask(method="context_shift").fit(strong[split.train])
    assert np.array_equal(
        task.predict(strong[split.test]).values, named.predict(strong[split.test]).values
    )
    ours, mean = (scores.value("pearson_delta", method=m) for m in (task.name, "mean"))
    assert ours > mean + 0.05


def test_data_of_one_line_are_told_how():
    strong = perturbed_cells(["ctrl", "G0"], contexts=("t0",), seed=0)
    strong.obs = strong.obs.drop(columns="cell_type")
    with pytest.raises(DataError, match="set context_key to null"):
        PerturbationTask(context_key="cell_line").fit(strong)
    PerturbationTask().fit(strong)  # found by itself
    strong.obs["cell_type"] = np.where(strong.obs["condition"] == "ctrl", "a", "b")
    with pytest.raises(DataError, match=r"no control cells, e.g. 'b'.*set context_key to null"):
        PerturbationTask().fit(strong)


def test_linear_model_knows_unseen_genes_by_their_loadings():
    """Genes of one programme do the same: an unseen one is told from its loadings."""
    programme = np.repeat([0, 1], 30)
    effect = np.where(programme == 0, 1.0, -1.0)

    def cells(conditions, seed):
        own = np.random.default_rng(seed)
        blocks = []
        for condition in conditions:
            sign = 0 if condition == "ctrl" else (1 if int(condition[1:]) < 30 else -1)
            activity = own.normal(size=(40, 2))
            noise = own.normal(0, 0.2, (40, 60))
            blocks.append(4 + activity[:, programme] + sign * effect + noise)
        adata = perturbed_cells(["ctrl"], n=40 * len(conditions), seed=seed)
        adata.X = np.concatenate(blocks).astype(np.float32)
        adata.obs["condition"] = np.repeat(conditions, 40)
        return adata

    train = cells(["ctrl", "G1", "G5", "G9", "G31", "G40", "G45"], 0)
    test = cells(["G12", "G50"], 1)
    task = PerturbationTask(method="linear", context_key=None).fit(train)
    scores = task.evaluate(test)
    assert scores.value("pearson_delta", method=task.name) > 0.8
    assert scores.value("rank_of_own", method=task.name) == 0


def test_cells_are_shifted_and_the_cause_is_found():
    train = perturbed_cells(SINGLES)
    control = perturbed_cells(["ctrl"], seed=2)
    task = PerturbationTask(method="latent_shift").fit(train)
    moved = task.perturb(control, condition="G2+ctrl").values
    goal = perturbed_cells(["G2+ctrl"], seed=3)
    gap = moved.mean(axis=0) - np.asarray(goal.X).mean(axis=0)
    assert moved.shape == control.shape
    assert np.abs(gap).max() < 0.3
    found = task.reverse(goal, context="t0", k=3)
    assert found.names[0] == "G2"
    assert len(found.names) == 3
    assert found.values[0] > 0.95


def test_any_representation_works_with_its_own_decoder():
    train, test = perturbed_cells(SINGLES), perturbed_cells(["G0+G1"], seed=1)
    turn = np.random.default_rng(0).normal(size=(60, 30))
    for part in (train, test):
        part.obsm["X_model"] = np.asarray(part.X) @ turn
    task = PerturbationTask(method="latent_shift", use_rep="X_model").fit(train)
    assert task.evaluate(test).value("pearson_delta", method=task.name) > 0.8


def test_a_context_without_training_controls_uses_its_own():
    train = perturbed_cells(SINGLES, contexts=("t0", "t2"))
    test = perturbed_cells(["ctrl", "G1+ctrl"], contexts=("t1",), seed=1)
    task = PerturbationTask(method="context_shift").fit(train)
    assert task.evaluate(test).value("pearson_delta", method=task.name) > 0.9
    with pytest.raises(DataError, match=r"No control cell of 't1'.*t0, t2"):
        task.evaluate(test[test.obs["condition"] != "ctrl"])


def test_splits_hold_whole_perturbations_out():
    adata = perturbed_cells([*SINGLES, "G0+G1", "G2+G3", "G1+G4"])
    split = unseen_perturbations(adata, seed=0)
    conditions = adata.obs["condition"].to_numpy()
    train, test = set(conditions[split.train]), set(conditions[split.test])
    assert not train & test
    assert "ctrl" in train
    seen = {c.split("+")[0] for c in train if c.endswith("+ctrl")}
    assert len(seen) == 4
    for pair in train - {"ctrl"}:
        assert set(pair.split("+")) <= seen | {"ctrl"}
    task = PerturbationTask().fit(adata[split.train])
    groups = {s.group for s in task.evaluate(adata[split.test]).items}
    assert "unseen single" in groups
    assert any(g.startswith("combo seen") for g in groups)


def test_leaks_and_missing_controls_are_refused():
    train = perturbed_cells(SINGLES)
    task = PerturbationTask().fit(train)
    with pytest.raises(
        DataError, match=r"1 perturbations are in training and in the test.*'G1 \| t0'"
    ):
        task.evaluate(perturbed_cells(["G1+ctrl"], seed=5))
    renamed = train[train.obs["condition"] == "G1+ctrl"].copy()
    renamed.obs["condition"] = "G9"
    with pytest.raises(DataError, match=r"40 of 40 cells to be scored were seen"):
        task.evaluate(renamed)
    with pytest.raises(
        DataError, match=r"no control cells; control is called 'control'.*Set `control`"
    ):
        PerturbationTask(control="control").fit(train[train.obs["condition"] != "ctrl"])
    with pytest.raises(ConfigError, match=r"'latentshift'. Did you mean 'latent_shift'"):
        PerturbationTask(method="latentshift")
    with pytest.raises(DataError, match=r"no 't9'"):
        unseen_context(train, "t9")
