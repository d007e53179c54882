"""scGPT's generator as a method of the task: it learns, is honest, and comes from its plugin."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from cellweave.cli.app import main
from cellweave.errors import ConfigError, UnknownComponentError
from cellweave_tasks import PerturbationTask, simulate_screen, unseen_pairs
from cellweave_tasks.perturbation_scores import pearson

from .planted_perturbations import perturbed_cells

needs_plugin = pytest.mark.skipif(
    find_spec("cellweave_scgpt") is None,
    reason="the generator lives in cellweave-scgpt, which is not installed",
)
SEEN = ["ctrl", "G0", "G1", "G2", "G3", "G4", "G5", "G0+G1", "G2+G3"]


@pytest.fixture(scope="module")
def task():
    pytest.importorskip("cellweave_scgpt", reason="the generator lives in cellweave-scgpt")
    made = PerturbationTask(method="generator", context_key=None, steps=150)
    return made.fit(perturbed_cells(SEEN))


@pytest.fixture(scope="module")
def test_cells():
    return perturbed_cells(["ctrl", "G0+G4", "G1+G5"], seed=1)


def test_an_unseen_pair_is_predicted_and_the_mean_is_beaten(task, test_cells):
    scores = task.evaluate(test_cells)
    own = scores.value("pearson_delta", method="generator on X")
    assert own > 0.6
    assert own > scores.value("pearson_delta", method="mean") + 0.2
    assert scores.summary["beats_mean"]
    assert {"no_change", "mean", "additive", "ridge"} <= {s.method for s in scores.items}


def test_cells_are_moved_each_by_its_own(task, test_cells):
    control = test_cells[(test_cells.obs["condition"] == "ctrl").to_numpy()]
    moved = task.perturb(control, condition="G0").values - control.X
    change = next(c for c in task.changes(perturbed_cells(["ctrl", "G0"], seed=2)))
    assert pearson(moved.mean(axis=0), change.true) > 0.8
    assert np.ptp(moved[:, 0]) > 0


def test_reverse_names_what_was_done(task):
    found = task.reverse(perturbed_cells(["G3"], seed=4), context="all", k=2)
    assert found.names[0] == "G3"


@needs_plugin
def test_the_same_seed_gives_the_same_bytes(test_cells):
    cells = perturbed_cells(SEEN)
    found = [
        PerturbationTask(method="generator", context_key=None, steps=5, seed=s).fit(cells)
        .predict(test_cells).values.tobytes() for s in (1, 1, 2)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert found[0] != found[2]


@needs_plugin
def test_too_little_training_is_told_first(test_cells):
    task = PerturbationTask(method="generator", context_key=None, steps=1)
    headline = task.fit(perturbed_cells(SEEN)).evaluate(test_cells).summary["headline"]
    assert headline.startswith("generator on X does NOT beat the mean of training perturbations")


@needs_plugin
def test_from_the_command_line(tmp_path, capsys):
    path = tmp_path / "screen.h5ad"
    simulate_screen(
        n_genes=40, n_programmes=2, n_perturbed=6, n_pairs=4, n_cells=8, n_control=40
    ).write_h5ad(path)
    more = ["--set", "method=generator", "--set", "steps=3"]
    assert main(["task", "perturbation", f"rna={path}", "--split", "perturbations", *more]) == 0
    assert "generator on X" in capsys.readouterr().out


@needs_plugin
def test_a_screen_of_counts_is_learnt():
    screen = simulate_screen(n_genes=60, n_programmes=3, n_perturbed=9, n_pairs=12, n_control=150)
    split = unseen_pairs(screen, seen=2)
    task = PerturbationTask(method="generator", steps=200).fit(screen[split.train])
    scores = task.evaluate(screen[split.test])
    own = scores.value("pearson_delta", method="generator on X")
    assert own > scores.value("pearson_delta", method="mean")


def test_settings_of_the_generator_are_its_own():
    with pytest.raises(ConfigError, match=r"steps is 3, which 'graph' does not use. .*'generator'"):
        PerturbationTask(method="graph", steps=3)
    with pytest.raises(ConfigError, match="steps is -1"):
        PerturbationTask(method="generator", steps=-1)


def test_without_the_plugin_its_command_is_told(monkeypatch):
    from cellweave.plugins import PluginManager

    monkeypatch.setattr("cellweave.plugins.get_plugin_manager", PluginManager.of)
    with pytest.raises(UnknownComponentError, match="pip install cellweave-scgpt"):
        PerturbationTask(method="generator", context_key=None).fit(perturbed_cells(SEEN))


def test_the_task_imports_no_torch():
    code = (
        "import sys; from cellweave_tasks import PerturbationTask; "
        "PerturbationTask(method='generator'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
