"""The engine's own models and the published families behind the tasks that edit and read tokens."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave_tasks.genesets import GeneSetTask
from cellweave_tasks.insilico import InSilicoTask
from cellweave_tasks.networks import NetworkTask

N_GENES = 24


def cells(seed=0, n=24):
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    rate = np.where((np.arange(N_GENES)[None] + kind[:, None]) % 2, 3.0, 0.6)
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs_names = [f"s{seed}c{i}" for i in range(n)]
    adata.obs["cell_type"] = np.array(["a", "b"])[kind]
    adata.var_names = [f"ENSG{i:011d}" for i in range(N_GENES)]
    adata.var["driver"] = np.arange(N_GENES) < 4
    return adata


def engine_model(name, **parameters):
    nn = pytest.importorskip("cellweave_nn")
    from cellweave_nn.models.build import build_encoder
    from cellweave_nn.models.cell_model import CellModel
    from cellweave_nn.models.folder import FolderConfig
    from cellweave_nn.tokenizers import NonzeroTokenizer

    tokenizer = NonzeroTokenizer().fit(cells())
    given = {"n_ids": len(tokenizer.vocabulary), "width": 16, "depth": 2, "heads": 2, **parameters}
    config = FolderConfig(
        encoder={"name": name, "parameters": given},
        special=dict(tokenizer.vocabulary.special),
        version=nn.__version__,
    )
    return CellModel(config=config, tokenizer=tokenizer, encoder=build_encoder(name, given, seed=1))


def transformer():
    return engine_model("nn.transformer", values="continuous")


def geneformer():
    package = pytest.importorskip("cellweave_geneformer")
    return package.GeneformerModel.untrained(
        cells(), width=16, depth=2, heads=2, hidden=32, max_length=32
    )


def scgpt():
    package = pytest.importorskip("cellweave_scgpt")
    return package.ScgptModel.untrained(
        cells(), width=16, depth=2, heads=2, hidden=32, max_length=32
    )


@pytest.mark.parametrize(
    ("make", "how"),
    [(transformer, "delete"), (geneformer, "overexpress"), (scgpt, "overexpress")],
)
def test_every_model_is_edited(make, how):
    task = InSilicoTask(model=make(), how=how, start="a", goal="b", min_cells=4).fit(cells())
    table = task.table(cells(seed=1))
    assert len(table) >= 10
    assert np.isfinite(table["shift"]).all()
    assert (table["shift"] != 0).any()
    assert task.evaluate(cells(seed=1)).summary["headline"]


@pytest.mark.parametrize(
    ("make", "method"),
    [(transformer, "attention"), (geneformer, "deletion"), (scgpt, "attention")],
)
def test_every_model_gives_a_network(make, method, tmp_path):
    names = cells().var_names
    path = tmp_path / "links.csv"
    links = [(names[i], names[j]) for i in (0, 1, 2) for j in range(5 + i, 12 + i)]
    pd.DataFrame(links, columns=["source", "target"]).to_csv(path, index=False)
    task = NetworkTask(network=str(path), method=method, model=make(), max_cells=8).fit(cells())
    assert task.table()["score"].nunique() > 10
    scores = task.evaluate(cells(seed=1))
    assert scores.value("reproducibility", method=task.name) > 0


def test_a_saved_model_is_named_by_its_folder(tmp_path):
    geneformer().save(tmp_path / "model")
    given = {"start": "a", "goal": "b", "min_cells": 4}
    by_path = InSilicoTask(model=str(tmp_path / "model"), **given).fit(cells())
    by_hand = InSilicoTask(model=geneformer(), **given).fit(cells())
    assert by_path.table(cells(seed=1)).equals(by_hand.table(cells(seed=1)))


def test_pathway_tokens_say_what_they_attend_to():
    pathways = {"odd": list(range(3, 27, 2)), "even": list(range(4, 27, 2))}
    model = engine_model("nn.pathway", pathways=pathways)
    task = GeneSetTask(method="attention", model=model).fit(cells(n=80))
    table = task.selected()
    assert sorted(table.index) == ["even", "odd", "remaining"]
    names, attention = model.pathway_attention(cells(n=80))
    of_a = (cells(n=80).obs["cell_type"] == "a").to_numpy()
    by_hand = attention[of_a].mean(axis=0) - attention.mean(axis=0)
    found = table.loc[names, "a"].to_numpy()
    assert found == pytest.approx(by_hand, abs=1e-6)
    assert task.evaluate(cells(seed=1)).value("accuracy", method=task.name) > 0.8
