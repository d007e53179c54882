"""Generation: scores by plain sums, the ends of their scales, and what drawing keeps."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.generation import GenerationTask, mmd, two_sample_auroc

from .test_annotation import blobs


def test_mmd_is_a_plain_sum_and_zero_for_one_distribution():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(7, 3)) + 1
    within = [((x[i] - x[j]) ** 2).sum() for i in range(9) for j in range(i)]
    expected = []
    for width in np.array([0.5, 1, 2]) * np.median(within):
        k = lambda a, b: np.exp(-((a - b) ** 2).sum() / width)  # noqa: B023, E731
        inside = [
            np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])
            for z in (x, y)
        ]
        expected.append(sum(inside) - 2 * np.mean([k(a, b) for a in x for b in y]))
    assert mmd(x, y) == pytest.approx(np.mean(expected), abs=1e-12)
    same = [mmd(rng.normal(size=(100, 5)), rng.normal(size=(100, 5))) for _ in range(20)]
    assert abs(np.mean(same)) < 0.003


def test_a_classifier_tells_what_differs_and_nothing_else():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 4))
    assert two_sample_auroc(real, rng.normal(size=(300, 4))) < 0.6
    assert two_sample_auroc(real, rng.normal(size=(300, 4)) + 3) > 0.98
    # Same means and spreads, but another correlation: products tell.
    turned = rng.normal(size=(300, 4))
    turned[:, 1] = 0.95 * turned[:, 0] + 0.3 * turned[:, 1]
    assert two_sample_auroc(real, turned) > 0.7


@pytest.mark.parametrize("method", ["gaussian", "mixing"])
def test_cells_of_a_label_look_like_it(method):
    train, test = blobs(n=150), blobs(n=150, seed=1)
    task = GenerationTask(method=method).fit(train)
    scores = task.evaluate(test)
    assert scores.value("mmd", method=task.name) < 0.02
    assert scores.value("two_sample_auroc", method=task.name) < 0.65
    assert scores.value("mmd", method="mean of label") > 0.2
    assert scores.value("mmd", method="one gaussian") > 0.1
    assert "beats one Gaussian" in scores.summary["headline"]
    made = task.predict(test).values
    for label in "abc":
        rows = test.obs["cell_type"].to_numpy() == label
        real = test.obsm["X_pca"][rows]
        assert np.abs(made[rows].mean(axis=0) - real.mean(axis=0)).max() < 0.5
        assert made[rows].std(axis=0) == pytest.approx(real.std(axis=0), rel=0.25)


def test_generated_cells_are_new_ones():
    train = blobs(n=50)
    made = GenerationTask().fit(train).predict(train).values
    away = np.abs(made[:, None] - train.obsm["X_pca"][None]).sum(axis=2).min(axis=1)
    assert (away > 1e-3).mean() > 0.95


def test_refusals():
    train = blobs()
    task = GenerationTask().fit(train)
    with pytest.raises(DataError, match=r"180 of 180 cells to be scored were seen"):
        task.evaluate(train)
    other = blobs(kinds=("a", "z"), seed=1)
    with pytest.raises(DataError, match=r"no cell labelled 'z'. It has: a, b, c"):
        task.predict(other)
    with pytest.raises(ConfigError, match=r"'gausian'. Did you mean 'gaussian'"):
        GenerationTask(method="gausian")
