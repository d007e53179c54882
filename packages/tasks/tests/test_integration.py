"""Integration of batches: methods, baselines, what is missing, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

import cellweave
from cellweave.cli.app import main
from cellweave.errors import ConfigError, DataError, MissingDependencyError
from cellweave.kernels.neighbours import nearest
from cellweave.testing import global_state_unchanged
from cellweave_tasks.batches.methods import METHODS, BatchCells, correct, pip_install
from cellweave_tasks.integration import ALWAYS, IntegrationTask


@pytest.fixture(scope="module")
def cells():
    made = cellweave.datasets.simulate(
        n_cells=240, modalities=("rna",), batches=2, prepared=True, seed=1
    )["rna"]
    made = made[:, made.var["highly_variable"]][:, :300].copy()
    rng = np.random.default_rng(0)
    shift = 15.0 * (made.obs["batch"].to_numpy() == sorted(set(made.obs["batch"]))[0])
    axes = made.obsm["X_pca"][:, :10]
    made.obsm["X_shifted"] = axes + shift[:, None] * np.eye(10)[9].astype("f4")
    made.obsm["X_noise"] = rng.normal(size=(made.n_obs, 10)).astype("f4")
    return made


def batch_cells(cells, rep="X_shifted"):
    return BatchCells(
        batches=cells.obs["batch"].to_numpy(dtype=str),
        logs=cells.X.toarray(),
        axes=cells.obsm[rep],
        counts=cells.layers["counts"],
        seed=0,
    )


def present(*names):
    return [pytest.param(n, marks=pytest.mark.skipif(bool(METHODS[n].missing()),
            reason=f"{n} needs {METHODS[n].requires}")) for n in names]  # fmt: skip


def mixing(values, batches):
    """Share of the 15 nearest that are of another batch; a half when two mix well."""
    at, _ = nearest(np.asarray(values, dtype="f8"), k=15, exclude_self=True)
    return float((batches[at] != batches[:, None]).mean())


@pytest.mark.parametrize("name", present("harmony", "bbknn", "scanorama"))
def test_what_corrects_axes_brings_planted_batches_together(cells, name):
    given = batch_cells(cells)
    with global_state_unchanged():
        found = correct(name, given).values
    assert len(found) == cells.n_obs
    assert mixing(given.axes, given.batches) < 0.25
    assert mixing(found, given.batches) > 0.35
    assert np.array_equal(found, correct(name, given).values)


@pytest.mark.parametrize("name", present("harmony", "scanorama", "combat"))
def test_rows_stay_in_order(cells, name):
    given = batch_cells(cells)
    order = np.argsort(given.batches, kind="stable")  # batches in one piece: another input order
    turned = batch_cells(cells[order].copy())
    found, again = correct(name, given).values[order], correct(name, turned).values
    gaps = np.linalg.norm(found[:, None] - again[None], axis=2)
    assert (gaps.argmin(axis=1) == np.arange(len(gaps))).mean() > 0.9


@pytest.mark.parametrize("name", present("combat"))
def test_combat_takes_a_shift_of_genes_out(cells, name):
    given = batch_cells(cells)
    logs = given.logs + 2.0 * (given.batches == given.batches[0])[:, None]
    shifted = BatchCells(batches=given.batches, logs=logs, axes=given.axes, counts=None, seed=0)
    assert mixing(correct("PCA", shifted).values, given.batches) < 0.05
    assert mixing(correct("combat", shifted).values, given.batches) > 0.4


def test_own_method_and_baselines_stand_in_every_table(cells):
    task = IntegrationTask(use_rep="X_noise", max_cells=200).fit(cells)
    scores = task.evaluate(cells)
    methods = {s.method for s in scores.items}
    assert methods == {"X_noise", "HVG", "PCA", "harmony on PCA"}
    assert "X_noise does NOT beat the best baseline" in scores.summary["headline"]
    assert scores.value("ari", method="X_noise") < 0.1 < scores.value("ari", method="PCA")
    assert ALWAYS == ("HVG", "PCA", "harmony")


def test_a_baseline_that_is_not_installed_stands_there_with_its_command(cells, monkeypatch):
    monkeypatch.setitem(METHODS, "harmony", _without("harmony"))
    scores = IntegrationTask().fit(cells).evaluate(cells)
    missing = [s for s in scores.items if s.method == "harmony on PCA"]
    assert missing
    assert all(s.value is None for s in missing)
    assert "pip install no_such_module" in missing[0].note


def _without(name):
    from dataclasses import replace

    return replace(METHODS[name], requires=("no_such_module",))


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].requires])
def test_a_missing_package_is_told_with_its_command(cells, name, monkeypatch):
    monkeypatch.setitem(METHODS, name, _without(name))
    with pytest.raises(MissingDependencyError, match="no_such_module, not installed here: pip"):
        correct(name, batch_cells(cells))
    named = METHODS[name].extra or "no_such_module"
    assert named in pip_install(name)


def test_methods_are_imported_when_asked_for_alone():
    code = (
        "import sys, cellweave_tasks.integration as i; i.IntegrationTask(method='harmony'); "
        "found = {'harmonypy', 'scanpy', 'scvi', 'torch', 'bbknn', 'scanorama'}; "
        "found &= set(sys.modules); sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_arguments_are_told(cells):
    with pytest.raises(ConfigError, match=r"Unknown method 'harmny'.*Did you mean 'harmony'"):
        IntegrationTask(method="harmny")
    with pytest.raises(ConfigError, match="Unknown method 'scv'"):
        IntegrationTask(baselines=["scv"])
    with pytest.raises(ConfigError, match="max_cells is 3"):
        IntegrationTask(max_cells=3)
    with pytest.raises(DataError, match="no 'donor'"):
        IntegrationTask(batch_key="donor").fit(cells)
    with pytest.raises(DataError, match="no 'X_none'"):
        IntegrationTask(use_rep="X_none").fit(cells)


def test_scvi_needs_counts(cells, monkeypatch):
    from dataclasses import replace

    monkeypatch.setitem(METHODS, "scvi", replace(METHODS["scvi"], requires=()))
    given = replace(batch_cells(cells), counts=None)
    with pytest.raises(DataError, match="scvi needs raw counts"):
        correct("scvi", given)


@pytest.mark.parametrize("name", ["scvi", "sysvi"])
def test_models_of_scvi_tools_take_a_shift_of_genes_out(cells, name):
    pytest.importorskip("scvi", reason="the extra scvi is not installed")
    given = batch_cells(cells)
    is_first = given.batches == given.batches[0]
    factor = np.where(np.arange(given.logs.shape[1]) % 2 == 0, 5.0, 1.0)
    counts = given.counts.toarray()
    counts[is_first] = np.round(counts[is_first] * factor)
    logs = given.logs + is_first[:, None] * np.log(factor)
    shifted = BatchCells(
        batches=given.batches,
        logs=logs.astype("f4"),
        axes=given.axes,
        counts=sp.csr_matrix(counts),
        seed=0,
    )
    with global_state_unchanged():
        found = correct(name, shifted)
    assert "scvi-tools" in found.note
    if name == "scvi":
        assert mixing(correct("PCA", shifted).values, given.batches) < 0.1
        assert mixing(found.values, given.batches) > 0.3
        assert np.array_equal(found.values, correct(name, shifted).values)
    else:  # so few cells are too few for the losses of sysVI to mix them: types stay together
        types = cells.obs["cell_type"].to_numpy(dtype=str)
        at, _ = nearest(np.asarray(found.values, dtype="f8"), k=5, exclude_self=True)
        assert (types[at] == types[:, None]).mean() > 0.5


def test_the_suite_of_scib_metrics_gives_its_numbers(cells):
    pytest.importorskip("scib_metrics", reason="the extra scib is not installed")
    from sklearn.metrics import silhouette_score

    from cellweave_tasks.scib_suite import scib_scores

    points = cells.obsm["X_pca"][:, :10]
    labels, batches = (cells.obs[k].to_numpy(dtype=str) for k in ("cell_type", "batch"))
    with global_state_unchanged():
        found = {s.metric: s.value for s in scib_scores(points, labels, batches)}
    assert len(found) == 10
    assert all(0 <= v <= 1 for v in found.values())
    silhouette = (silhouette_score(points, labels) + 1) / 2
    assert found["scib:silhouette_label"] == pytest.approx(silhouette, abs=1e-4)


def test_the_ontology_adds_its_score(cells, tmp_path):
    types = sorted(set(cells.obs["cell_type"]))
    terms = [f"[Term]\nid: CL:{i}\nname: {t}\nis_a: CL:{90 + i % 2}" for i, t in enumerate(types)]
    terms += ["[Term]\nid: CL:90\nname: left", "[Term]\nid: CL:91\nname: right\nis_a: CL:90"]
    path = tmp_path / "cl.obo"
    path.write_text("format-version: 1.2\n\n" + "\n\n".join(terms) + "\n")
    scores = IntegrationTask(ontology=str(path)).fit(cells).evaluate(cells)
    assert -1 <= scores.value("scgraph_ontorwr", method="X_pca") <= 1
    path.write_text("format-version: 1.2\n\n[Term]\nid: CL:1\nname: other\n")
    with pytest.raises(DataError, match="Map your labels to ids"):
        IntegrationTask(ontology=str(path)).fit(cells).evaluate(cells)


def test_from_the_command_line_all_cells_are_scored(cells, tmp_path, capsys):
    path, page, out = (tmp_path / n for n in ("c.h5ad", "page.html", "s.json"))
    cells.write_h5ad(path)
    arguments = ["task", "integration", f"rna={path}", "--set", "use_rep=X_pca", "-o", str(out)]
    assert main([*arguments, "--report", str(page)]) == 0
    assert "best baseline" in capsys.readouterr().out
    text = page.read_text()
    assert "none: all cells. No label was read before it was scored." in text
    assert "X_pca, by batch" in text
    assert main(["task", "annotation", f"rna={path}", "--split", "all"]) == 2
    assert "were seen in training" in capsys.readouterr().err
