"""`cellweave zeroshot`: baselines that stay, models from folders and keys, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import cellweave
from cellweave.cli.app import main
from cellweave.errors import ConfigError, DataError
from cellweave.records import Scores
from cellweave_tasks.masked_genes import masked_genes
from cellweave_tasks.zeroshot import find_models, zero_shot

BASELINES = ("HVG", "PCA", "harmony on PCA")


@pytest.fixture(scope="module")
def cells():
    made = cellweave.datasets.simulate(
        n_cells=200, modalities=("rna",), batches=2, prepared=True, seed=2
    )["rna"]
    made = made[:, made.var["highly_variable"]][:, :200].copy()
    rng = np.random.default_rng(0)
    made.obsm["X_noise"] = rng.normal(size=(made.n_obs, 8)).astype("f4")
    fine = made.obs["cell_type"].astype(object).to_numpy().copy()
    fine[:30] = None
    made.obs["fine"] = fine
    return made


def test_models_stand_beside_baselines_for_every_column(cells):
    found = zero_shot(
        cells, {"true": "true_state", "noise": "X_noise"}, label_keys=("cell_type", "fine")
    )
    for group in ("", "labels:fine"):
        methods = {s.method for s in found.scores.items if s.group == group}
        assert methods == {"true", "noise", *BASELINES}
    value = {s.method: s.value for s in found.scores.items if s.metric == "avg_bio" and not s.group}
    assert value["true"] > value["PCA"] - 0.05 > value["noise"] + 0.2
    first, second = found.scores.summary["sentences"][:2]
    assert "noise does NOT beat the best baseline" in second
    assert first.startswith("true ")
    assert found.baselines == BASELINES
    assert [r.name for r in found.representations] == ["true", "noise", *BASELINES]


def test_cells_are_drawn_and_the_same_again(cells):
    runs = [zero_shot(cells, {"m": "X_noise"}, max_cells=80, seed=3) for _ in range(2)]
    assert runs[0].cells.n_obs == 80
    assert runs[0].scores.to_json() == runs[1].scores.to_json()


def test_one_batch_leaves_harmony_in_the_table(cells):
    before = list(cells.obs)
    found = zero_shot(cells, {"m": "X_noise"}, batch_key=None, max_cells=100)
    harmony = [s for s in found.scores.items if s.method == "harmony on PCA"]
    assert {s.note for s in harmony} == {"there is one batch"}
    assert list(cells.obs) == before  # the caller's cells hold no new column


def test_wrong_models_are_told_before_work(cells, tmp_path):
    with pytest.raises(ConfigError, match=r"X_nois.*Did you mean 'X_noise'"):
        find_models(["X_nois"], cells)
    (tmp_path / "a" / "m").mkdir(parents=True)
    cells.obsm["m"] = cells.obsm["X_noise"]
    try:
        with pytest.raises(ConfigError, match="Two models are called 'm'"):
            find_models(["m", "m"], cells)
    finally:
        del cells.obsm["m"]
    with pytest.raises(ConfigError, match="0 models and 1 columns"):
        zero_shot(cells, {})
    with pytest.raises(DataError, match="no 'donor'"):
        zero_shot(cells, {"m": "X_noise"}, batch_key="donor")


def test_from_the_command_line_with_a_model_folder(cells, tmp_path, capsys):
    geneformer = pytest.importorskip("cellweave_geneformer", reason="the family is not installed")
    named = cells.copy()
    named.var_names = [f"ENSG{i:011d}" for i in range(named.n_vars)]
    model = geneformer.GeneformerModel.untrained(
        named, width=16, depth=1, heads=2, hidden=16, max_length=64
    )
    model.save(tmp_path / "tiny")
    path, page, out = (tmp_path / n for n in ("c.h5ad", "page.html", "s.json"))
    named.write_h5ad(path)
    arguments = ["zeroshot", str(tmp_path / "tiny"), "X_noise", f"rna={path}"]
    assert main([*arguments, "--report", str(page), "-o", str(out)]) == 0
    text = capsys.readouterr().out
    assert "tiny does NOT beat the best baseline" in text
    assert "HARMONY ON PCA" in text
    items = [s for s in Scores.load(out).items if not s.group.startswith("masked:")]
    assert {s.method for s in items} == {"tiny", "X_noise", *BASELINES}
    html = page.read_text()
    for shown in ("tiny, by type", "harmony on PCA, by batch", "★", "Every number"):
        assert shown in html
    assert main([*arguments, "--json", "--max-cells", "60"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["n_cells"] == 60


@pytest.fixture
def asked(cells):
    """Give a model that fills in hidden genes, on cells that it knows."""
    scgpt = pytest.importorskip("cellweave_scgpt", reason="the family is not installed")
    return scgpt.ScgptModel.untrained(cells, width=16, depth=1, heads=2, hidden=16, max_length=64)


def test_hidden_genes_stand_beside_the_mean(cells, asked):
    found = zero_shot(cells, {"tiny": asked, "noise": "X_noise"}, max_cells=80)
    (one,) = found.masked
    value = {s.method: s.value for s in one.scores if s.metric == "masked_mse"}
    truth = one.found.truth
    assert value["tiny"] == pytest.approx(np.mean((one.found.guess - truth) ** 2))
    spread = np.mean((truth - one.found.baselines["mean of all values"]) ** 2)
    assert value["mean of all values"] == pytest.approx(spread)
    assert "Of hidden genes tiny does NOT beat" in found.scores.summary["sentences"][-1]
    assert {s.group for s in one.scores} == {"masked:tiny"}
    assert one.scores[0] in found.scores.items
    without = zero_shot(cells, {"tiny": asked}, max_cells=80, masked_share=0)
    assert without.masked == ()
    with pytest.raises(ConfigError, match=r"masked_share=1\.5"):
        zero_shot(cells, {"tiny": asked}, masked_share=1.5)


def test_hidden_genes_are_those_of_some_cells(cells, asked, monkeypatch):
    monkeypatch.setattr("cellweave_tasks.masked_genes._MOST_CELLS", 20)
    runs = [
        masked_genes(cells, {"m": asked}, share=0.2, batch_size=8, device="cpu", seed=seed)[0][0]
        for seed in (0, 0, 1)
    ]
    assert [r.found.cells.max() < 20 for r in runs] == [True] * 3
    assert np.array_equal(runs[0].found.truth, runs[1].found.truth)
    assert not np.array_equal(runs[0].found.ids, runs[2].found.ids)


def test_hidden_genes_are_on_the_page(cells, asked, tmp_path, capsys):
    asked.save(tmp_path / "tiny")
    path, page = tmp_path / "c.h5ad", tmp_path / "page.html"
    cells.write_h5ad(path)
    arguments = ["zeroshot", str(tmp_path / "tiny"), f"rna={path}", "--max-cells", "60"]
    assert main([*arguments, "--report", str(page)]) == 0
    assert "mean of the gene" in capsys.readouterr().out.lower()
    html = page.read_text()
    for shown in ("Hidden genes", "masked_r2", "mean of the gene", "tiny: hidden genes"):
        assert shown in html


def test_data_alone_is_refused(capsys):
    assert main(["zeroshot", "cells.h5ad"]) == 2
    assert "Give models, then the cells" in capsys.readouterr().err
