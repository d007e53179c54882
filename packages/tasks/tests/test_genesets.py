"""Gene sets as classifiers: the optimum by its conditions, planted sets, random sets, attention."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy.optimize import minimize

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.gene_sets import gene_sets_on
from cellweave_tasks.genesets import GeneSetTask, _shuffled
from cellweave_tasks.group_lasso import Problem, largest_penalty, lasso_path, softmax
from cellweave_tasks.set_classifier import _within_one_error
from cellweave_tasks.set_kernels import SetFeatures

N_GENES, N_SETS = 120, 12
SETS = {f"set{i}": [f"g{j}" for j in range(10 * i, 10 * i + 10)] for i in range(N_SETS)}


def labelled(seed=0, n=60, strength=1.2):
    """Set 3 tells type a, set 7 tells type b; the other sets tell nothing."""
    rng = np.random.default_rng(seed)
    types = np.repeat(["a", "b", "c"], n)
    mean = np.full((3 * n, N_GENES), 3.0)
    mean[types == "a", 30:40] += strength
    mean[types == "b", 70:80] += strength
    adata = ad.AnnData(np.maximum(rng.normal(mean, 1.0), 0).astype(np.float32))
    adata.obs_names = [f"s{seed}c{i}" for i in range(3 * n)]
    adata.var_names = [f"g{i}" for i in range(N_GENES)]
    adata.obs["cell_type"], adata.obs["donor"] = types, f"d{seed}"
    return adata


def small_problem(seed=0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(80, 12))
    codes = (table[:, :3].sum(axis=1) > 0).astype(int) + (table[:, 3] > 1)
    return Problem(
        table=table - table.mean(axis=0),
        labels=np.eye(3)[codes],
        weights=rng.uniform(0.5, 2, 80),
        offsets=np.array([0, 3, 6, 8, 12]),
    )


def objective(problem, penalty, weights, intercept):
    likely = softmax(problem.table @ weights + intercept)
    loss = -(problem.weights * np.log((likely * problem.labels).sum(axis=1))).sum()
    norms = [
        np.linalg.norm(weights[a:b]) for a, b in zip(problem.offsets[:-1], problem.offsets[1:])
    ]
    return loss / problem.weights.sum() + penalty * sum(norms)


def test_the_optimum_meets_its_conditions_and_no_other_point_is_lower():
    problem = small_problem()
    top = largest_penalty(problem)
    for fit in lasso_path(problem, top * np.array([1.001, 0.6, 0.3, 0.1])):
        residual = softmax(problem.table @ fit.weights + fit.intercept) - problem.labels
        scaled = residual * (problem.weights / problem.weights.sum())[:, None]
        assert np.abs(scaled.sum(axis=0)).max() < 1e-4
        gradient = problem.table.T @ scaled
        for g, (a, b) in enumerate(zip(problem.offsets[:-1], problem.offsets[1:])):
            size = np.linalg.norm(fit.weights[a:b])
            assert fit.norms[g] == pytest.approx(size)
            if size > 0:
                sub = gradient[a:b] + fit.penalty * fit.weights[a:b] / size
                assert np.abs(sub).max() < 1e-3
            else:
                assert np.linalg.norm(gradient[a:b]) <= fit.penalty * 1.002
        flat = np.concatenate([fit.weights.ravel(), fit.intercept])
        found = minimize(
            lambda x, fit=fit: objective(problem, fit.penalty, x[:36].reshape(12, 3), x[36:]), flat,
            method="L-BFGS-B", options={"maxfun": 40_000},
        )  # fmt: skip
        assert objective(problem, fit.penalty, fit.weights, fit.intercept) < found.fun + 1e-5
    first = next(lasso_path(problem, [top * 1.001]))
    assert (first.norms == 0).all()


def test_random_features_are_the_gaussian_kernel_and_linear_ones_the_product():
    cells = labelled(n=20)
    sets = gene_sets_on(SETS, cells.var_names.to_numpy(dtype=str))
    values = np.asarray(cells.X)
    features = SetFeatures(sets=sets, kernel="fourier", n_frequencies=2000)
    table = features.fit(values)
    assert table.shape == (60, 12 * 4000)
    assert np.allclose(features(values), table, atol=1e-6)
    points = (values[:, :10] - values[:, :10].mean(axis=0)) / (values[:, :10].std(axis=0) + 1e-2)
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    width = np.median(apart[np.triu_indices(60, k=1)])
    kernel = np.exp(-(apart**2) / 2 / width**2)
    raw = features._raw(points, 0)
    assert np.abs(raw @ raw.T / 2000 - kernel).max() < 0.08
    linear = SetFeatures(sets=sets, kernel="linear")
    block = linear.fit(values)[:, :10] * linear.sizes[0]
    assert block @ block.T == pytest.approx(points @ points.T, abs=1e-3)


@pytest.mark.parametrize("method", ["fourier", "linear"])
def test_planted_sets_are_chosen_and_others_are_not(method):
    task = GeneSetTask(gene_sets=SETS, group_key="donor", method=method).fit(labelled())
    chosen = task.selected()
    assert set(chosen.index[:2]) == {"set3", "set7"}
    assert len(chosen) <= 4
    assert chosen.loc["set3", "stability"] == 1
    assert chosen.loc["set3", "a"] > chosen.loc["set3", "b"]
    scores = task.evaluate(labelled(seed=1))
    assert scores.value("accuracy", method=task.name) > 0.9
    assert scores.summary["selected"][:2] == list(chosen.index[:2])
    random = scores.value("accuracy", method="random sets of the same sizes")
    assert random < scores.value("accuracy", method=task.name)
    assert scores.value("n_sets", method=task.name) == len(chosen)


def test_sets_that_mean_nothing_do_no_better_than_random_ones():
    shuffled = np.random.default_rng(0).permutation(N_GENES)
    sets = {f"set{i}": [f"g{j}" for j in shuffled[10 * i : 10 * i + 10]] for i in range(N_SETS)}
    task = GeneSetTask(gene_sets=sets, method="linear").fit(labelled())
    scores = task.evaluate(labelled(seed=1))
    ours, random = (
        scores.value("accuracy", method=m) for m in (task.name, "random sets of the same sizes")
    )
    assert abs(ours - random) < 0.1


def test_random_sets_keep_sizes_and_overlaps():
    sets = gene_sets_on({"a": [f"g{i}" for i in range(10)], "b": [f"g{i}" for i in range(6, 20)]},
                        np.array([f"g{i}" for i in range(40)]))  # fmt: skip
    turned = _shuffled(sets, 1)
    assert turned.sizes.tolist() == [10, 14]
    assert len(set(turned.columns(0)) & set(turned.columns(1))) == 4
    assert set(turned.members.indices) == set(sets.members.indices)


def test_the_sparsest_within_one_error_is_taken():
    losses = np.array([[1.0, 0.52, 0.50, 0.6], [1.2, 0.56, 0.55, 0.5]])
    assert _within_one_error(losses) == 1
    assert _within_one_error(losses[:1]) == 2


def test_pathway_attention_names_what_decided():
    pytest.importorskip("cellweave_nn")

    class Model:
        family = "pathways"
        tokenizer = None

        def with_tokenizer(self, tokenizer):
            return self

        def embed(self, adata):
            return type("E", (), {"values": np.asarray(adata.X)[:, 30:80]})

        def pathway_attention(self, adata):
            a = (adata.obs["cell_type"] == "a").to_numpy(float)
            return np.array(["p", "q"]), np.stack([0.2 + 0.5 * a, 0.1 + 0 * a], axis=1)

    task = GeneSetTask(method="attention", model=Model()).fit(labelled())
    assert list(task.selected().index) == ["p", "q"]
    assert task.selected().loc["p", "a"] == pytest.approx(1 / 3)
    scores = task.evaluate(labelled(seed=1))
    assert scores.value("accuracy", method="attention of pathways") > 0.9
    assert not any("random sets" in s.method for s in scores.items)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ConfigError, match=r"needs gene sets. Name a GMT"):
        GeneSetTask()
    with pytest.raises(ConfigError, match=r"'forier'. Did you mean 'fourier'"):
        GeneSetTask(method="forier")
    with pytest.raises(ConfigError, match=r"needs a model with pathway tokens"):
        GeneSetTask(method="attention")
    with pytest.raises(DataError, match=r"None of 1 gene sets"):
        GeneSetTask(gene_sets={"x": ["TP53"] * 9}).fit(labelled())
    task = GeneSetTask(gene_sets=SETS, method="linear", group_key="donor").fit(labelled())
    renamed = labelled(seed=1)
    renamed.obs["donor"] = "d0"
    with pytest.raises(DataError, match=r"groups of `obs\['donor'\]` are in training"):
        task.evaluate(renamed)
