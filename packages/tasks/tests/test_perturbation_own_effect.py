"""The gene that is knocked down falls, and that holds for genes never perturbed."""

import numpy as np
import pytest

from cellweave_tasks import PerturbationTask, simulate_screen, unseen_perturbations
from cellweave_tasks.perturbation_names import parse_condition
from cellweave_tasks.perturbation_own_effect import OwnEffect, _slope


def test_the_slope_is_that_of_the_planted_effect():
    rng = np.random.default_rng(0)
    levels = rng.uniform(0.5, 3, 30)
    changes = rng.normal(0, 0.05, (30, 30)) - 0.7 * np.diag(levels)
    assert _slope(levels, changes) == pytest.approx(-0.7, abs=0.03)
    assert _slope(levels, rng.normal(0, 0.3, (30, 30)) + 5) == 0  # the others tell it better
    assert _slope(levels[:3], changes[:3, :3]) == 0


def test_a_gene_that_was_not_measured_is_left_as_it_is():
    effect = OwnEffect(slope=-1.0, levels=np.array([2.0, 1.0]), places={"a": 0, "b": 1})
    change = np.array([0.5, 0.5])
    assert effect.on("z", change) is change
    assert effect.on("a", change).tolist() == [-2.0, 0.5]
    assert change.tolist() == [0.5, 0.5]


def test_unseen_knock_downs_fall():
    screen = simulate_screen(n_genes=160, n_perturbed=24, n_pairs=0, n_cells=25, n_control=200)
    split = unseen_perturbations(screen)
    task = PerturbationTask().fit(screen[split.train])
    names = list(screen.var_names)
    falls = []
    for change in task.changes(screen[split.test]):
        (gene,) = parse_condition(change.name.split(" | ")[0], None)
        falls.append((change.predicted[names.index(gene)], change.true[names.index(gene)]))
    predicted, true = np.array(falls).T
    assert (predicted < 0).all()
    assert np.corrcoef(predicted, true)[0, 1] > 0.5
