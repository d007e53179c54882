"""One cell, one donor or one perturbation on both sides is refused by every task that learns."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from cellweave.errors import DataError
from cellweave_tasks import (
    AnnotationTask,
    CrossModalityTask,
    ImputationTask,
    PerturbationTask,
    by_group,
)

from .planted_perturbations import perturbed_cells
from .test_annotation import blobs
from .test_imputation import programmes


def with_donors(cells):
    cells.obs["donor"] = np.where(np.arange(cells.n_obs) % 2, "d1", "d2")
    return cells


def labelled(seed):
    return with_donors(blobs(n=60, seed=seed))


def measured(seed):
    return with_donors(programmes(n=120, seed=seed))


TASKS = {
    "annotation": (AnnotationTask, labelled),
    "annotation of X": (lambda **k: AnnotationTask(use_rep=None, **k), labelled),
    "cross_modality": (lambda **k: CrossModalityTask(method="ridge", **k), measured),
    "imputation": (lambda **k: ImputationTask(method="ridge", n_components=8, **k), measured),
}


def disguised(cells, rows):
    """The cells under other names and in another order."""
    part = cells[np.asarray(rows)[::-1]].copy()
    part.obs_names = [f"new{i}" for i in range(part.n_obs)]
    return part


@pytest.mark.parametrize("name", TASKS)
def test_the_same_cells_under_other_names(name):
    make, data = TASKS[name]
    train, fresh = data(0), data(1)
    task = make().fit(train)
    task.evaluate(fresh)  # cells never seen are scored
    with pytest.raises(DataError, match="cells to be scored were seen in training"):
        task.evaluate(disguised(train, range(train.n_obs)))
    half = ad.concat([disguised(train, range(20)), fresh[20:]], merge="same")
    for key in fresh.obsm:
        if key not in half.obsm:
            half.obsm[key] = fresh.obsm[key]
    with pytest.raises(DataError, match="cells to be scored were seen in training"):
        task.evaluate(half)


@pytest.mark.parametrize("name", TASKS)
def test_the_same_donor(name):
    make, data = TASKS[name]
    train, fresh = data(0), data(1)
    task = make(group_key="donor").fit(train)
    with pytest.raises(DataError, match=r"groups of `obs\['donor'\]` are in training and in the"):
        task.evaluate(fresh)
    alone = make(group_key="donor").fit(train[train.obs["donor"] == "d1"].copy())
    alone.evaluate(fresh[fresh.obs["donor"] == "d2"].copy())


def test_a_split_by_group_never_shares_one():
    cells = labelled(0)
    split = by_group(cells, "donor", ["d1"])
    sides = [set(cells.obs["donor"].iloc[rows]) for rows in (split.train, split.test)]
    assert not sides[0] & sides[1]


def test_the_same_perturbation_in_the_same_context():
    train = perturbed_cells(["ctrl", "G0+ctrl", "G1+ctrl"])
    test = perturbed_cells(["G1+ctrl", "G2+ctrl"], seed=1)
    task = PerturbationTask().fit(train)
    with pytest.raises(DataError, match="perturbations are in training and in the test"):
        task.evaluate(test)
    written = test[test.obs["condition"] == "G1+ctrl"].copy()
    written.obs["condition"] = "ctrl+G1"  # the other way round it is the same
    with pytest.raises(DataError, match="perturbations are in training and in the test"):
        task.evaluate(written)
