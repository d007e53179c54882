"""Near-identical types need many axes; the default takes them, and judges an embedding alone."""

import anndata as ad
import numpy as np
import pandas as pd

from cellweave_tasks import AnnotationTask, by_fraction
from cellweave_tasks.classifiers import Blend, LinearProbe
from cellweave_tasks.novelty import Limits


def near_identical(n=150, seed=0):
    """Four types, two of them apart by genes that few principal axes show."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["b", "nk", "cd4", "cd8"], n)
    x = rng.normal(2, 1, (len(labels), 120))
    x[labels == "b", :30] += 3
    x[labels == "nk", 30:60] += 3
    x[labels == "cd8", 60:80] += 0.9
    cells = ad.AnnData(np.maximum(x, 0).astype(np.float32))
    cells.obs = pd.DataFrame({"cell_type": labels}, index=[f"c{i}" for i in range(len(labels))])
    centred = cells.X - cells.X.mean(axis=0)
    cells.obsm["X_pca"] = np.ascontiguousarray((centred @ np.linalg.svd(centred)[2].T)[:, :2])
    cells.obsm["X_model"] = cells.obsm["X_pca"].copy()
    return cells


def test_the_default_tells_near_identical_types_apart():
    cells = near_identical()
    split = by_fraction(cells.n_obs, test_fraction=0.3)
    found = {}
    for rep in ("X_pca", "X_model"):
        task = AnnotationTask(use_rep=rep).fit(cells[split.train])
        assert task.name == {"X_pca": "blend on X_pca", "X_model": "linear on X_model"}[rep]
        scores = task.evaluate(cells[split.test])
        found[rep] = scores.value("accuracy", method=task.name)
    assert found["X_pca"] > found["X_model"] + 0.05
    assert found["X_pca"] > 0.9


def test_a_blend_is_the_mean_of_its_two_views():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(80, 7)), rng.permutation(np.repeat(["x", "y"], 40))
    both = Blend(width=3).fit(features, labels)
    first = LinearProbe(penalty=10.0, balance=0.0).fit(features[:, :3], labels)
    second = LinearProbe(penalty=30.0, balance=1.0).fit(features[:, 3:], labels)
    mean = (first.probabilities(features[:, :3]) + second.probabilities(features[:, 3:])) / 2
    assert np.allclose(both.probabilities(features), mean)
    assert np.array_equal(both.novelty(features), first.novelty(features[:, :3]))


def test_rare_types_weigh_half_way_between_as_counted_and_alike():
    rng = np.random.default_rng(1)
    labels = np.array(["common"] * 300 + ["rare"] * 12)
    features = rng.normal(size=(312, 2)) + (labels == "rare")[:, None] * 1.0
    called = [
        (LinearProbe(balance=b).fit(features, labels).probabilities(features)[:, 1] > 0.5).sum()
        for b in (0.0, 0.5, 1.0)
    ]
    assert called[0] < called[1] < called[2]


def test_limits_of_small_types_do_not_hang_on_one_cell():
    """With 20 cells a 95 % limit is their largest; the shape of all types steadies it."""
    rng = np.random.default_rng(2)
    spread = []
    for _ in range(40):
        novelty = np.concatenate([rng.lognormal(0, 0.2, 20) * m for m in (1.0, 1.2, 1.5, 2.0)])
        said = np.repeat(np.arange(4), 20)
        limits = Limits.calibrated(novelty, said, 4, 0.05).by_type
        largest = np.array([novelty[said == t].max() for t in range(4)])
        spread.append((limits[0], largest[0]))
    own, largest = np.std(spread, axis=0)
    assert own < 0.8 * largest
    assert abs(np.mean(spread, axis=0)[0] - np.exp(1.645 * 0.2)) < 0.1
