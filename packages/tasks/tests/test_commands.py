"""`cellweave task` and `cellweave bench`, and that naming them imports no task."""

from __future__ import annotations

import json
import subprocess
import sys

import anndata as ad
import pytest

from cellweave.cli.app import main
from cellweave.datasets import simulate
from cellweave_tasks.running import load_cells, split_cells

from .planted_perturbations import perturbed_cells
from .test_annotation import blobs


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "cells.h5ad"
    adata = ad.concat([blobs(n=30, seed=0), blobs(n=30, seed=1)])
    adata.X = adata.X + 0.5 * (adata.X > 0)  # no counts: taken as it is
    adata.write_h5ad(path)
    return f"rna={path}"


def test_a_task_is_scored_reported_and_predicts(cells, tmp_path, capsys):
    out, page, said = (tmp_path / n for n in ("scores.json", "page.html", "said.h5ad"))
    arguments = ["task", "annotation", cells, "--split", "group:donor=d1", "--set", "method=knn"]
    arguments += ["-o", str(out), "--report", str(page), "--json"]
    arguments += ["--predict", cells, "--predictions", str(said)]
    assert main(arguments) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["split"] == "donor=d1"
    accuracy = {s["method"]: s["value"] for s in shown["scores"] if s["metric"] == "accuracy"}
    assert accuracy["knn on X_pca"] == 1
    assert set(accuracy) == {"knn on X_pca", "majority", "linear on PCA of X"}
    assert out.exists()
    assert "svg" in page.read_text()
    found = ad.read_h5ad(said)
    assert (found.obs["prediction"].astype(str) == found.obs["cell_type"].astype(str)).mean() > 0.9
    assert "prediction_confidence" in found.obs


def test_logarithms_without_an_embedding_are_prepared_as_such(tmp_path, capsys):
    whole = simulate(n_cells=150, modalities=("rna",), prepared=True, seed=0)["rna"]
    logs = ad.AnnData(whole.X, obs=whole.obs[["cell_type"]], var=whole.var[[]])
    logs.write_h5ad(tmp_path / "logs.h5ad")
    found = load_cells(str(tmp_path / "logs.h5ad"))
    assert abs(found.X - logs.X).max() == 0
    assert "X_pca" in found.obsm
    assert main(["task", "annotation", str(tmp_path / "logs.h5ad")]) == 0
    assert "linear on PCA of X" in capsys.readouterr().out
    own = logs.copy()
    own.obsm["X_pca"] = whole.obsm["X_pca"][:, :3]
    own.write_h5ad(tmp_path / "own.h5ad")
    assert load_cells(str(tmp_path / "own.h5ad")).obsm["X_pca"].shape[1] == 3


def test_bench_ranks_methods_and_is_the_same_again(cells, tmp_path, capsys):
    arguments = ["bench", "annotation", cells, "--methods", "linear,prototype", "--seeds", "2"]
    texts = []
    for i in range(2):
        out, page = tmp_path / f"b{i}.json", tmp_path / f"b{i}.html"
        assert main([*arguments, "-o", str(out), "--report", str(page)]) == 0
        texts.append((out.read_text(), page.read_bytes(), capsys.readouterr().out))
    assert texts[0] == texts[1]
    assert "±" in texts[0][2]
    assert "prototype on X_pca" in texts[0][2]


def test_responses_get_their_page(tmp_path, capsys):
    path, page = tmp_path / "p.h5ad", tmp_path / "p.html"
    perturbed_cells(["ctrl", "G0+ctrl", "G1+ctrl"], contexts=("t0", "t1", "t2")).write_h5ad(path)
    arguments = ["task", "perturbation", f"rna={path}", "--split", "context:t1"]
    assert main([*arguments, "--report", str(page)]) == 0
    assert "the mean of training perturbations" in capsys.readouterr().out
    assert "G0 | t1" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--split", "halves"], "'halves' is not understood. Write one of: fraction:0.2"),
        (["--split", "fraction:much"], "has no share"),
        (["--split", "group:donor=d7"], "no group 'd7'"),
        (["--set", "metod=knn"], "Unknown setting 'metod'. Did you mean 'method'"),
        (["--predict", "x.h5ad"], "Give --predictions out.h5ad"),
    ],
)
def test_wrong_arguments_end_with_two(cells, arguments, text, capsys):
    assert main(["task", "annotation", cells, *arguments]) == 2
    assert text in capsys.readouterr().err


def test_splits_by_text_are_those_of_the_functions():
    adata = blobs(n=20)
    assert split_cells(adata, "fraction:0.5").name == "random 0.5"
    adata = perturbed_cells(["ctrl", "G0+ctrl", "G1+ctrl"])
    held_out = split_cells(adata, "perturbations").test
    assert len(set(adata.obs["condition"].iloc[held_out])) >= 1


def test_naming_the_commands_imports_no_task():
    code = (
        "import sys, typer; from cellweave_tasks._commands import register; "
        "register(typer.Typer()); "
        "heavy = {'sklearn', 'cellweave_tasks.annotation', 'torch', 'matplotlib'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
