"""Drug responses: planted levels and pairs, blind splits, correlations by scipy, tables joined."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from cellweave.errors import ConfigError, DataError, MissingDependencyError, UnreadableFileError
from cellweave_tasks.drug import DrugTask
from cellweave_tasks.drug_data import drug_pairs, morgan_fingerprints
from cellweave_tasks.drug_models import Levels, Pairs
from cellweave_tasks.splits import by_fraction, by_unseen

N_CELLS, N_DRUGS = 40, 30


def world(interaction=1.0, level=1.0, seed=0):
    """Levels follow the descriptions of drug and cell, and so does what is particular to a pair."""
    rng = np.random.default_rng(seed)
    cells, drugs = rng.normal(size=(N_CELLS, 6)), rng.integers(0, 2, (N_DRUGS, 12)).astype(float)
    centred = drugs - drugs.mean(axis=0)
    y = (
        3 * (centred @ rng.normal(size=12))[None] / 3
        + level * (cells @ rng.normal(size=6))[:, None] / 2
    )
    y = y + interaction * cells @ rng.normal(size=(6, 12)) @ centred.T / 2
    y = y + 0.3 * rng.normal(size=y.shape)
    adata = ad.AnnData(np.maximum(cells + 4, 0).astype(np.float32))
    adata.obs_names = [f"line{i}" for i in range(N_CELLS)]
    adata.obsm["X_pca"] = cells.astype(np.float32)
    table = pd.DataFrame(
        [(f"line{c}", f"drug{d}", y[c, d]) for c in range(N_CELLS) for d in range(N_DRUGS)],
        columns=["cell_line", "drug", "response"],
    )
    return adata, table, pd.DataFrame(drugs, index=[f"drug{d}" for d in range(N_DRUGS)])


def pairs(**arguments):
    return drug_pairs(*world(**arguments))


def split_and_score(task, cells, split):
    return task.fit(cells[split.train]).evaluate(cells[split.test])


def test_pairs_stand_beside_what_describes_them():
    adata, table, drugs = world()
    more = pd.concat(
        [table, table.iloc[:1].assign(response=100.0), table.iloc[:1].assign(cell_line="other")]
    )
    found = drug_pairs(adata, more, drugs)
    assert found.shape == (N_CELLS * N_DRUGS, 6)
    row = found[found.obs_names.get_loc("line3 + drug7")]
    assert np.allclose(row.obsm["X_pca"], adata.obsm["X_pca"][3])
    assert np.allclose(row.obsm["X_drug"], drugs.loc["drug7"])
    assert row.obs["response"].iloc[0] == pytest.approx(
        table.query("cell_line == 'line3' and drug == 'drug7'")["response"].iloc[0]
    )
    first = found.obs.loc["line0 + drug0", "response"]
    assert first == pytest.approx((table["response"][0] + 100) / 2)


def test_single_cells_are_averaged_over_their_line():
    adata, table, drugs = world()
    singles = ad.concat([adata, adata])
    singles.obs["cell_line"] = singles.obs_names.to_numpy()
    singles.obs_names = [f"c{i}" for i in range(singles.n_obs)]
    singles.obsm["X_pca"] = np.concatenate([adata.obsm["X_pca"] - 1, adata.obsm["X_pca"] + 1])
    found = drug_pairs(singles, table, drugs)
    assert np.allclose(found.obsm["X_pca"], pairs().obsm["X_pca"], atol=1e-6)


def test_levels_are_means():
    rng = np.random.default_rng(0)
    names = np.repeat(["a", "b"], 3), np.tile(["x", "y", "z"], 2)
    y = rng.normal(size=6)
    given = Pairs(
        cells=names[0],
        drugs=names[1],
        cell_features=np.zeros((6, 1)),
        drug_features=np.zeros((6, 1)),
    )
    per_drug = Levels(("drugs",)).fit(given, y).predict(given)
    assert per_drug == pytest.approx(pd.Series(y).groupby(names[1]).transform("mean"))
    both = Levels(("drugs", "cells")).fit(given, y).predict(given)
    table = y.reshape(2, 3)
    plain = table.mean(axis=0) + table.mean(axis=1, keepdims=True) - table.mean()
    assert both == pytest.approx(plain.ravel())


def test_the_mean_of_a_drug_looks_good_over_all_pairs_and_is_nothing_within_a_drug():
    cells = pairs(interaction=0, level=0)
    scores = split_and_score(DrugTask(), cells, by_unseen(cells, ["cell_line"], seed=0))
    assert scores.value("pearson", method="mean per drug") > 0.9
    assert scores.value("pearson_per_drug", method="mean per drug") == 0
    assert scores.summary["difference_value"] < 0.02
    assert "mean per drug" in {s.method for s in scores.items}


@pytest.mark.parametrize(
    ("blind", "keys"),
    [("drug", ["drug"]), ("cell", ["cell_line"]), ("both", ["drug", "cell_line"])],
)
def test_planted_responses_are_found_blind(blind, keys):
    cells = pairs()
    split = by_unseen(cells, keys, test_share=0.25, seed=1)
    train, test = cells.obs.iloc[split.train], cells.obs.iloc[split.test]
    for key in keys:
        assert not set(train[key]) & set(test[key])
    scores = split_and_score(DrugTask(blind=blind), cells, split)
    ours = scores.value("rmse", method="bilinear on X_pca")
    assert ours < 0.8 * min(
        scores.value("rmse", method=m) for m in ("mean per drug", "mean per cell", "mean")
    )
    assert scores.summary["headline"].startswith("bilinear on X_pca beats the best baseline")
    assert scores.summary["difference_low"] > 0


@pytest.mark.parametrize("method", ["ridge", "kernel", "knn", "mlp"])
def test_every_method_beats_the_mean_of_all(method):
    cells = pairs(interaction=0.5)
    scores = split_and_score(
        DrugTask(method=method), cells, by_fraction(cells.n_obs, test_fraction=0.3)
    )
    assert scores.value("rmse", method=f"{method} on X_pca") < 0.8 * scores.value(
        "rmse", method="mean"
    )


def test_scores_are_those_of_scipy():
    cells = pairs()
    split = by_fraction(cells.n_obs, test_fraction=0.3)
    task = DrugTask().fit(cells[split.train])
    test = cells[split.test].copy()
    said, scores = task.predict(test).values.astype(float), task.evaluate(test)
    true = test.obs["response"].to_numpy()
    assert scores.value("pearson") == pytest.approx(pearsonr(said, true)[0], abs=1e-6)
    assert scores.value("spearman") == pytest.approx(spearmanr(said, true)[0], abs=1e-4)
    drug = test.obs["drug"].to_numpy(str)
    each = [
        pearsonr(said[drug == d], true[drug == d])[0]
        for d in sorted(set(drug))
        if (drug == d).sum() > 2
    ]
    assert scores.value("pearson_per_drug") == pytest.approx(np.mean(each), abs=1e-6)
    assert scores.value("pearson_per_drug", group="drug:drug0") == pytest.approx(each[0], abs=1e-6)


def test_leaks_are_refused_by_name_and_by_description():
    cells = pairs()
    split = by_unseen(cells, ["drug"], seed=0)
    train, test = cells[split.train].copy(), cells[split.test].copy()
    with pytest.raises(DataError, match=r"drugs of the test are in training.*`unseen:drug=0.2`"):
        DrugTask(blind="drug").fit(cells[:600]).evaluate(cells[600:])
    renamed = train[:50].copy()
    renamed.obs["drug"] = "new " + renamed.obs["drug"].astype(str)
    renamed.obsm["X_pca"] = renamed.obsm["X_pca"] + 1
    with pytest.raises(DataError, match=r"by name or description, e.g. 'new "):
        DrugTask(blind="drug").fit(train).evaluate(renamed)
    with pytest.raises(DataError, match=r"cells of the test are in training"):
        DrugTask(blind="cell").fit(train).evaluate(test)
    with pytest.raises(DataError, match=r"seen in training"):
        DrugTask().fit(train).evaluate(train)


def test_what_cannot_be_done_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"'bilinar'. Did you mean 'bilinear'"):
        DrugTask(method="bilinar")
    with pytest.raises(ConfigError, match=r"blind is 'drugs'"):
        DrugTask(blind="drugs")
    with pytest.raises(ConfigError, match=r"Give both tables, or neither"):
        DrugTask(responses="x.csv")
    adata, table, drugs = world()
    with pytest.raises(DataError, match=r"The responses lack drug"):
        drug_pairs(adata, table.drop(columns="drug"), drugs)
    with pytest.raises(DataError, match=r"No response joins one of 40 cell lines, e.g. 'line0'"):
        drug_pairs(adata, table.assign(cell_line="HeLa"), drugs)
    with pytest.raises(DataError, match=r"holds what is no number"):
        drug_pairs(adata, table, drugs.assign(smiles="CCO"))
    with pytest.raises(UnreadableFileError, match=r"Cannot read"):
        DrugTask(responses="no.csv", drugs="no.csv").arranged(adata)
    broken = pairs()
    broken.obs.loc[broken.obs_names[:3], "response"] = np.nan
    with pytest.raises(DataError, match=r"3 of 1200 responses"):
        DrugTask().fit(broken)
    monkeypatch.setitem(__import__("sys").modules, "rdkit", None)
    with pytest.raises(MissingDependencyError, match=r"cellweave-tasks\[drugs\]"):
        morgan_fingerprints({"ethanol": "CCO"})
    with pytest.raises(DataError, match=r"holds one group"):
        by_unseen(pairs()[:5], ["cell_line"])


def test_fingerprints_are_those_of_rdkit(capfd):
    pytest.importorskip("rdkit", reason="the extra drugs is not installed")
    from rdkit.Chem import AllChem, MolFromSmiles
    from rdkit.DataStructs import ConvertToNumpyArray

    drugs = {
        "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
        "same aspirin": "O=C(O)c1ccccc1OC(C)=O",
        "imatinib": "CN1CCN(Cc2ccc(cc2)C(=O)Nc2ccc(C)c(Nc3nccc(n3)-c3cccnc3)c2)CC1",
    }
    found = morgan_fingerprints(drugs, n_bits=512)
    assert found.shape == (3, 512)
    assert found.loc["aspirin"].equals(found.loc["same aspirin"].rename("aspirin"))
    other = np.zeros(512)  # the older way to the same bits
    ConvertToNumpyArray(
        AllChem.GetMorganFingerprintAsBitVect(MolFromSmiles(drugs["imatinib"]), 2, nBits=512), other
    )
    assert np.array_equal(found.loc["imatinib"], other)
    capfd.readouterr()
    with pytest.raises(DataError, match="The SMILES of 'broken', 'C1CC', cannot be read"):
        morgan_fingerprints({"broken": "C1CC"})
    assert capfd.readouterr().err == ""


def test_tables_join_on_the_way(tmp_path):
    adata, table, drugs = world()
    table.to_csv(tmp_path / "r.csv", index=False)
    drugs.to_csv(tmp_path / "d.tsv", sep="\t")
    task = DrugTask(responses=str(tmp_path / "r.csv"), drugs=str(tmp_path / "d.tsv"))
    assert task.arranged(adata).obs["response"].to_numpy() == pytest.approx(
        pairs().obs["response"].to_numpy()
    )
    assert DrugTask().arranged(adata) is adata
