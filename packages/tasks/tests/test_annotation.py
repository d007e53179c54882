"""Annotation against scikit-learn, sums by hand, planted answers and planted leaks."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.annotation import UNKNOWN, AnnotationTask
from cellweave_tasks.classification import (
    classification_scores,
    expected_calibration_error,
)
from cellweave_tasks.features import fingerprints
from cellweave_tasks.ontology import Ontology
from cellweave_tasks.splits import by_fraction, by_group, by_tiles, grouped_folds

OBO = """format-version: 1.2

[Term]
id: CL:0
name: cell

[Term]
id: CL:1
name: lymphocyte
is_a: CL:0 ! cell

[Term]
id: CL:2
name: T cell
synonym: "T-cell" EXACT []
is_a: CL:1 ! lymphocyte

[Term]
id: CL:3
name: B cell
is_a: CL:1 ! lymphocyte

[Term]
id: CL:4
name: monocyte
is_a: CL:0 ! cell

[Term]
id: CL:5
name: helper
is_a: CL:2 ! T cell

[Term]
id: CL:9
name: gone
is_obsolete: true
"""


def blobs(n=60, kinds=("a", "b", "c"), seed=0, width=6):
    rng = np.random.default_rng(seed)
    # The places of the kinds depend on their names alone.
    centres = {k: 6 * np.random.default_rng(ord(k)).normal(size=width) for k in kinds}
    labels = np.repeat(kinds, n)
    points = np.stack([centres[k] for k in labels]) + rng.normal(size=(len(labels), width))
    x = np.maximum(np.hstack([points, rng.normal(size=(len(labels), 20))]), 0)
    adata = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)))
    adata.obs_names = [f"s{seed}c{i}" for i in range(len(labels))]
    adata.obs["cell_type"] = pd.Categorical(labels)
    adata.obs["donor"] = [f"d{seed}"] * len(labels)
    adata.obsm["X_pca"] = points.astype(np.float32)
    return adata


def test_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    truth, said = rng.choice(list("abc"), 200), rng.choice(list("abcd"), 200)
    found = {
        s.metric: s.value
        for s in classification_scores(truth, said, None, method="m", seed=0)
        if not s.group
    }
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(
        np.mean([(said[truth == t] == t).mean() for t in "abc"]), abs=1e-12
    )
    assert found["macro_f1"] == pytest.approx(
        f1_score(truth, said, average="macro", labels=list("abc")), abs=1e-12
    )
    only = rng.choice(list("abc"), 200)
    found = classification_scores(truth, only, None, method="m", seed=0)
    assert found[1].value == pytest.approx(balanced_accuracy_score(truth, only), abs=1e-12)


def test_calibration_error_by_hand():
    correct = np.array([True, True, False, True])
    confidence = np.array([0.95, 0.91, 0.92, 0.55])
    by_hand = (3 * abs(2 / 3 - (0.95 + 0.91 + 0.92) / 3) + abs(1 - 0.55)) / 4
    assert expected_calibration_error(correct, confidence) == pytest.approx(by_hand)
    assert expected_calibration_error(np.array([True]), np.array([1.0])) == 0


def test_distance_in_a_tree_made_by_hand(tmp_path):
    path = tmp_path / "cl.obo"
    path.write_text(OBO)
    tree = Ontology.from_obo(path)
    assert tree.id_of("t-cell") == "CL:2"
    assert tree.lca_distance("CL:2", "CL:3") == 1  # over lymphocyte
    assert tree.lca_distance("CL:5", "CL:4") == 3  # over cell
    assert tree.lca_distance("CL:2", "CL:5") == 0  # too fine, but not wrong
    truth = np.array(["T cell", "T cell", "helper"])
    said = np.array(["T cell", "B cell", "monocyte"])
    assert tree.mean_lca_distance(truth, said, {}) == 2
    assert tree.mean_lca_distance(truth, truth, {}) == 0
    with pytest.raises(DataError, match=r"no 'T-sell'.*'t-cell'.*ids"):
        tree.id_of("T-sell")


def test_lcad_stands_among_the_scores(tmp_path):
    path = tmp_path / "cl.obo"
    path.write_text(OBO)
    ids = {"a": "CL:2", "b": "CL:3", "c": "CL:4"}
    task = AnnotationTask(ontology=str(path), label_ids=ids).fit(blobs())
    scores = task.evaluate(blobs(seed=1))
    # The commonest type is "a" (ties by name): b is 1 off, c one off below the root.
    assert scores.value("lcad", method="majority") == pytest.approx(1.0)
    assert scores.value("lcad", method=task.name) == 0


@pytest.mark.parametrize("method", ["linear", "knn", "prototype"])
def test_planted_types_are_found_and_unseen_ones_flagged(method):
    train, test = blobs(kinds=("a", "b")), blobs(kinds=("a", "b", "c"), seed=1)
    task = AnnotationTask(method=method).fit(train)
    scores = task.evaluate(test)
    assert scores.value("accuracy", method=task.name) == 1
    assert scores.value("novel_auroc", method=task.name) > 0.99
    assert scores.value("novel_auroc", method="majority") == 0.5
    said = task.predict(test).values
    new = test.obs["cell_type"].to_numpy() == "c"
    assert (said[new] == UNKNOWN).mean() > 0.95
    assert (said[~new] == UNKNOWN).mean() < 0.15


def test_shuffled_labels_score_as_chance():
    train, test = blobs(n=200, kinds=("a", "b")), blobs(n=200, kinds=("a", "b"), seed=1)
    for part in (train, test):  # in blobs a whole blob would go one way, by chance
        part.obs["cell_type"] = np.random.default_rng(0).permutation(part.obs["cell_type"])
        part.obsm["X_pca"] = np.random.default_rng(part.n_obs).normal(size=(400, 6))
    test.obsm["X_pca"] = np.random.default_rng(9).normal(size=(400, 6))
    task = AnnotationTask().fit(train)
    assert abs(task.evaluate(test).value("balanced_accuracy", method=task.name) - 0.5) < 0.15


def test_wide_values_use_the_most_variable_columns():
    train, test = blobs(), blobs(seed=1)
    wide = sparse.csr_matrix((train.n_obs, 5000), dtype=np.float32)
    train, test = (
        ad.AnnData(
            sparse.hstack([wide, a.X]).tocsr(),
            obs=a.obs,
            var=pd.DataFrame(index=map(str, range(5026))),
        )
        for a in (train, test)
    )
    task = AnnotationTask(use_rep=None).fit(train)
    assert task._fitted.width == 2000
    assert task.evaluate(test).value("accuracy", method=task.name) > 0.95


def test_the_same_cells_are_refused_under_other_names():
    train = blobs()
    again = train[::-1].copy()
    again.obs_names = [f"other{i}" for i in range(again.n_obs)]
    with pytest.raises(DataError, match=r"180 of 180 cells to be scored were seen.*split first"):
        AnnotationTask().fit(train).evaluate(again)


def test_the_same_donor_is_refused():
    train, test = blobs(), blobs(seed=1)
    test.obs["donor"] = "d0"
    task = AnnotationTask(group_key="donor").fit(train)
    with pytest.raises(DataError, match=r"1 groups of `obs\['donor'\]`.*'d0'.*one side"):
        task.evaluate(test)


def test_a_row_has_one_digest_sparse_or_dense():
    x = sparse.random(50, 30, density=0.2, random_state=0, format="csr", dtype=np.float32)
    digests = fingerprints(x)
    assert (digests == fingerprints(x.toarray())).all()
    assert len(set(digests.tolist())) == len({tuple(r) for r in x.toarray().tolist()})
    swapped = x.toarray()[:, ::-1]
    assert (fingerprints(swapped) != digests).mean() > 0.9


def test_splits_keep_groups_and_tiles_apart():
    adata = ad.concat([blobs(seed=0), blobs(seed=1)])
    split = by_group(adata, "donor", ["d1"])
    assert set(adata.obs["donor"].iloc[split.train]) == {"d0"}
    assert [f.name for f in grouped_folds(adata, "donor")] == ["donor=d0", "donor=d1"]
    with pytest.raises(DataError, match=r"no group 'dx'.*d0, d1"):
        by_group(adata, "donor", ["dx"])
    parts = by_fraction(10, test_fraction=0.3, seed=1)
    assert sorted([*parts.train, *parts.test]) == list(range(10))
    assert len(parts.test) == 3
    grid = np.stack(np.meshgrid(range(18), range(20)), -1).reshape(-1, 2).astype(float)
    adata.obsm["spatial"] = grid
    tiled = by_tiles(adata, tiles=4, test_fraction=0.25)
    assert 0.15 < len(tiled.test) / adata.n_obs < 0.4
    far = np.abs(grid[tiled.test][:, None] - grid[tiled.train][None]).sum(-1).min(axis=1)
    assert (far > 1).mean() > 0.3


def test_wrong_arguments_are_told():
    with pytest.raises(ConfigError, match=r"'linaer'.*'linear'.*Available"):
        AnnotationTask(method="linaer")
    with pytest.raises(ConfigError, match=r"unknown_rate is 1.5"):
        AnnotationTask(unknown_rate=1.5)
    with pytest.raises(DataError, match=r"no 'X_pcaa'. Did you mean 'X_pca'"):
        AnnotationTask(use_rep="X_pcaa").fit(blobs())
    other = blobs(seed=1)
    other.obsm["X_pca"] = other.obsm["X_pca"][:, :3]
    with pytest.raises(DataError, match=r"3 columns, training had 6"):
        AnnotationTask().fit(blobs()).predict(other)


def test_a_new_batch_is_not_called_unknown_when_batches_are_named():
    parts = [blobs(seed=i) for i in range(5)]
    for i, part in enumerate(parts):  # each batch lies a little elsewhere
        part.obsm["X_pca"] = part.obsm["X_pca"] + 1.5 * np.random.default_rng(i).normal(size=6)
    train, test = ad.concat(parts[:4]), parts[4]
    wrongly = {}
    for key, widened in ((None, False), (None, True), ("donor", True)):
        task = AnnotationTask(group_key=key, new_technology=widened).fit(train)
        wrongly[key, widened] = task.evaluate(test).value("false_unknown", method=task.name)
    assert wrongly["donor", True] < 0.1
    assert wrongly[None, False] > 0.3
    assert wrongly[None, True] < wrongly[None, False]


def test_another_technology_is_rarely_called_unknown_and_an_unseen_type_in_it_is():
    false = {"as it is": [], "widened": [], "a type unseen": []}
    recall = []
    for draw in range(4):
        train, test = blobs(seed=2 * draw), blobs(seed=2 * draw + 1)
        for part, away in ((train, 0.0), (test, 3.0)):
            # Axes that types do not use.
            more = np.random.default_rng(part.n_obs).normal(size=(part.n_obs, 4))
            part.obsm["X_pca"] = np.hstack([part.obsm["X_pca"], more + away]).astype("f4")
        unseen = sorted(set(train.obs["cell_type"]))[-1]
        for name, widened in (("as it is", False), ("widened", True), ("a type unseen", True)):
            kept = train[train.obs["cell_type"] != unseen] if name == "a type unseen" else train
            task = AnnotationTask(new_technology=widened).fit(kept.copy())
            scores = task.evaluate(test)
            false[name].append(scores.value("false_unknown", method=task.name))
        recall.append(scores.value("unknown_recall", method=task.name))
    assert min(false["as it is"]) > 0.9
    assert np.mean(false["widened"]) < 0.3
    assert np.mean(false["a type unseen"]) < 0.1
    assert min(recall) > 0.6
