"""Cross-modality prediction and imputation: planted answers, chance, refusals."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import pearsonr

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.cross_modality import CrossModalityTask, with_target
from cellweave_tasks.imputation import HELD_OUT, ImputationTask, thinned
from cellweave_tasks.regressors import column_correlations, make_regressor
from cellweave_tasks.shrinkage import Shrinkage, _weights


def programmes(n=150, genes=80, seed=0, depth=400):
    rng, world = np.random.default_rng(seed), np.random.default_rng(5)
    loadings = world.gamma(0.4, size=(4, genes))
    rates = rng.dirichlet(np.full(4, 0.4), n) @ (loadings / loadings.sum(axis=1, keepdims=True))
    counts = rng.poisson(depth * rates).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(counts)))
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.obs_names = [f"s{seed}c{i}" for i in range(n)]
    adata.obsm["X_pca"] = np.log1p(rates * 1e3)[:, :10].astype(np.float32)
    target = np.stack([rates[:, 0] * 100, np.sin(300 * rates[:, 1])], axis=1)
    adata.obsm["target"] = pd.DataFrame(target, index=adata.obs_names, columns=["line", "wave"])
    return adata


def test_correlations_equal_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    expected = [pearsonr(a[:, j], b[:, j])[0] for j in range(3)]
    assert column_correlations(a, b) == pytest.approx(expected, abs=1e-12)
    assert column_correlations(a, a) == pytest.approx(1)
    assert (column_correlations(np.ones((30, 3)), b) == 0).all()


@pytest.mark.parametrize("method", ["blend", "ridge", "knn", "kernel"])
def test_planted_columns_are_predicted(method):
    task = CrossModalityTask(method=method).fit(programmes())
    scores = task.evaluate(programmes(seed=1))
    assert scores.value("pearson", method=task.name, group="line") > 0.95
    assert scores.value("pearson", method="mean") == 0
    assert scores.value("relative_mse", method="mean") == pytest.approx(1, abs=0.1)


def test_what_is_not_linear_needs_the_kernel():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (600, 2))
    y = np.stack([np.sin(3 * x[:, 0]), x[:, 0] * x[:, 1]], axis=1)
    found = {
        m: column_correlations(make_regressor(m).fit(x[:400], y[:400]).predict(x[400:]), y[400:])
        for m in ("ridge", "kernel")
    }
    assert found["kernel"].min() > 0.97 > found["ridge"].max()


def test_shuffled_targets_score_as_chance():
    train, test = programmes(n=300), programmes(n=300, seed=1)
    train.obsm["target"] = (
        train.obsm["target"].sample(frac=1, random_state=0).set_axis(train.obs_names)
    )
    for seed, part in enumerate((train, test)):  # else one chance direction moves all cells
        part.obsm["X_pca"] = np.random.default_rng(seed).normal(size=(300, 10))
    task = CrossModalityTask(method="ridge").fit(train)
    assert abs(task.evaluate(test).value("pearson", method=task.name)) < 0.2


def test_own_counts_are_weighed_by_what_they_are_worth():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(400, 2)), rng.normal(size=(400, 2))
    truth = shared + np.array([2.0, 0.0]) * own  # the first has what no axis shows
    measured = truth + np.array([0.1, 3.0]) * rng.normal(size=(400, 2))
    model = Shrinkage(prior="ridge").fit(shared[:300], measured[:300], truth[:300])
    alone = make_regressor("ridge").fit(shared[:300], truth[:300]).predict(shared[300:])
    found = column_correlations(model.predict(shared[300:], measured[300:]), truth[300:])
    assert found[0] > 0.99 > 0.6 > column_correlations(alone, truth[300:])[0]
    assert found[1] > 0.99
    assert model.weight[0] > 0.9
    assert abs(model.weight[1]) < 0.02


def test_weights_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    prior, own, rest = rng.normal(size=(3, 5000, 2))
    rest = rest + 0.3 * prior - 0.5 * own
    found = np.stack(_weights(prior, own, rest))
    for j in range(2):
        table = np.stack([prior[:, j], own[:, j]], axis=1)
        exact = np.linalg.lstsq(table, rest[:, j], rcond=None)[0]
        assert found[:, j] == pytest.approx(exact, abs=0.003)  # the ridge of ten cells in 5 000


def test_shrinkage_beats_what_it_is_made_of_where_genes_vary_alone():
    def noisy(seed):
        adata = programmes(n=300, seed=seed, depth=4000)
        rng = np.random.default_rng(seed)
        rates = adata.layers["counts"].toarray()
        rates = rates * rng.lognormal(0, 0.5, rates.shape)  # bursts of single genes
        adata.layers["counts"] = sparse.csr_matrix(rng.poisson(0.3 * rates).astype(np.float32))
        return adata

    values = {}
    for method in ("shrinkage", "kernel"):
        task = ImputationTask(method=method, n_components=6).fit(noisy(0))
        scores = task.evaluate(noisy(1))
        values[method] = scores.value("pearson", method=task.name)
    best = max(s.value for s in scores.items if s.metric == "pearson" and s.method != task.name)
    assert values["shrinkage"] > max(values["kernel"], best) + 0.02


def test_modalities_are_joined_by_name():
    rna = programmes(n=20)
    prot = ad.AnnData(np.arange(30.0).reshape(15, 2).astype(np.float32))
    prot.obs_names = rna.obs_names[5:][::-1]
    prot.var_names = ["CD3", "CD4"]
    joined = with_target(rna, prot)
    assert list(joined.obs_names) == list(rna.obs_names[5:])
    assert joined.obsm["target"].loc[rna.obs_names[19], "CD3"] == 0
    assert "target" in rna.obsm
    assert "CD3" not in rna.obsm["target"]
    prot.obs_names = [f"x{i}" for i in range(15)]
    with pytest.raises(DataError, match=r"No cell of 20 is among the 15"):
        with_target(rna, prot)


def test_cross_modality_refuses_leaks_and_other_columns():
    train = programmes()
    task = CrossModalityTask(method="ridge").fit(train)
    with pytest.raises(DataError, match=r"150 of 150 cells"):
        task.evaluate(train)
    test = programmes(seed=1)
    test.obsm["target"] = test.obsm["target"][["wave", "line"]]
    with pytest.raises(DataError, match=r"another order"):
        task.evaluate(test)
    with pytest.raises(ConfigError, match=r"'kernl'. Did you mean 'kernel'"):
        CrossModalityTask(method="kernl")


def test_thinning_is_binomial_and_loses_nothing():
    cells = programmes(n=400)
    parts = thinned(cells, keep=0.3, seed=1)
    kept, held = parts.layers["counts"], parts.layers[HELD_OUT]
    assert abs(kept + held - cells.layers["counts"]).nnz == 0
    assert kept.sum() / cells.layers["counts"].sum() == pytest.approx(0.3, abs=0.01)
    assert not parts.obsm
    assert "X_pca" in cells.obsm
    # Given the rate, halves of Poisson counts are independent: copying gains nothing.
    one_rate = ad.AnnData(sparse.csr_matrix((2000, 1), dtype=np.float32))
    counts = np.random.default_rng(0).poisson(4, (2000, 1)).astype(np.float32)
    one_rate.layers["counts"] = sparse.csr_matrix(counts)
    parts = thinned(one_rate)
    both = [parts.layers[k].toarray().ravel() for k in ("counts", HELD_OUT)]
    assert abs(np.corrcoef(*both)[0, 1]) < 0.07


def test_imputation_beats_what_was_measured_and_the_mean():
    task = ImputationTask(method="ridge", n_components=10).fit(programmes(n=200))
    scores = task.evaluate(programmes(n=150, seed=1))
    ours = scores.value("pearson", method=task.name)
    assert ours > scores.value("pearson", method="as measured") + 0.1
    assert scores.value("pearson", method="mean") == 0
    assert {s.method for s in scores.items} >= {"knn", "diffusion", "linear"}
    assert "beat" in scores.summary["headline"]


def test_embeddings_of_all_counts_are_refused():
    train, test = programmes(), programmes(seed=1)
    with pytest.raises(DataError, match=r"made from the counts that are to be scored.*thinned"):
        ImputationTask(use_rep="X_pca").fit(train)
    parts = [thinned(a, seed=2) for a in (train, test)]
    for part in parts:
        part.obsm["X_model"] = part.X.toarray()[:, :10]
    task = ImputationTask(use_rep="X_model", method="ridge").fit(parts[0])
    assert task.evaluate(parts[1]).value("pearson", method=task.name) > 0
    with pytest.raises(DataError, match=r"150 of 150 cells"):
        task.evaluate(thinned(train, seed=7))
    train.layers["counts"] = train.layers["counts"] * 0.5
    with pytest.raises(DataError, match=r"no counts.*raw counts"):
        ImputationTask().fit(train)
    with pytest.raises(ConfigError, match=r"keep is 1.0"):
        ImputationTask(keep=1.0)
