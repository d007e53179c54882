"""Genes: planted classes, chance, the baseline of expression, and genes on both sides."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cellweave.errors import DataError
from cellweave_tasks.genes import GeneTask, gene_folds


def genes(n=120, seed=0, signal=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(["yes", "no"], n)
    adata = ad.AnnData(rng.poisson(1, (40, n)).astype(np.float32))
    adata.var_names = [f"s{seed}g{i}" for i in range(n)]
    adata.obs_names = [f"c{i}" for i in range(40)]
    adata.var["label"] = labels
    adata.varm["PCs"] = rng.normal(size=(n, 5)) + signal * (labels == "yes")[:, None]
    return adata


def test_planted_classes_are_found_and_chance_is_chance():
    scores = GeneTask().fit(genes()).evaluate(genes(seed=1))
    assert scores.value("auroc", method="linear on PCs") > 0.99
    assert scores.value("auroc", method="majority") == 0.5
    assert abs(scores.value("auroc", method="linear on expression") - 0.5) < 0.2
    blind = GeneTask().fit(genes(signal=0)).evaluate(genes(seed=1, signal=0))
    assert abs(blind.value("auroc", method="linear on PCs") - 0.5) < 0.2


def test_auroc_is_that_of_scikit_learn():
    task, test = GeneTask().fit(genes(signal=0.3)), genes(seed=1, signal=0.3)
    found = task.predict(test)
    truth = test.var["label"].to_numpy() == "yes"
    at = list(found.columns).index("yes")
    by_hand = roc_auc_score(truth, found.probabilities[:, at])
    assert task.evaluate(test).value("auroc") == pytest.approx(by_hand, abs=1e-6)


def test_what_expression_tells_is_no_merit_of_the_embedding():
    rng = np.random.default_rng(0)
    parts = []
    for seed in (0, 1):
        part = genes(seed=seed, signal=0)
        rich = part.var["label"].to_numpy() == "yes"
        part.X = rng.poisson(np.where(rich, 4.0, 0.5), part.shape).astype(np.float32)
        parts.append(part)
    scores = GeneTask().fit(parts[0]).evaluate(parts[1])
    assert scores.value("auroc", method="linear on expression") > 0.99
    assert "does NOT beat the best baseline, linear on expression" in scores.summary["headline"]


def test_folds_hold_whole_genes_out_and_leaks_are_refused():
    adata = genes()
    adata.var.loc[adata.var_names[:20], "label"] = np.nan
    folds = list(gene_folds(adata, "label", n_folds=4))
    assert sorted(np.concatenate([f.test for f in folds])) == list(range(20, 120))
    first = folds[0]
    task = GeneTask().fit(adata[:, first.train])
    assert task.evaluate(adata[:, first.test]).value("accuracy", method=task.name) > 0.9
    with pytest.raises(DataError, match=r"genes to be scored were in training.*Split by gene"):
        task.evaluate(adata)
    with pytest.raises(DataError, match=r"n_folds is 500"):
        next(gene_folds(adata, "label", n_folds=500))
    with pytest.raises(DataError, match=r"`adata.varm` has no 'X_gene'"):
        GeneTask(use_rep="X_gene").fit(adata)
