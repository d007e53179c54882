"""Several sections: told apart, centred, and left out in turn."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cellweave.cli.app import main
from cellweave.errors import DataError
from cellweave_tasks import SpatialTask, by_group
from cellweave_tasks.spatial import neighbourhood_features


def tissue(patients="ABCD", side=12, *, level=3.0, seed=0, missing=0.0):
    """Left is tumour, right is stroma, with noise; each patient has a level of its own."""
    rng = np.random.default_rng(seed)
    place = np.array([(i, j) for i in range(side) for j in range(side)], dtype=float)
    blocks, rows = [], []
    for patient in patients:
        is_tumour = place[:, 0] < side * rng.uniform(0.3, 0.7)
        own = np.where(is_tumour, 1.0, -1.0)[:, None] * np.array([1.0, -1.0, 0, 0, 0, 0])
        own = own + level * rng.normal(size=6) + rng.normal(0, 1.0, (len(place), 6))
        blocks.append(own)
        labels = np.where(is_tumour, "tumour", "stroma").astype(object)
        labels[rng.random(len(place)) < missing] = np.nan
        rows.append(pd.DataFrame({"patient": patient, "pathology": labels}))
    made = ad.AnnData(np.abs(np.concatenate(blocks)).astype(np.float32) + 0.5)
    made.obs = pd.concat(rows, ignore_index=True)
    made.obs.index = [f"s{i}" for i in range(made.n_obs)]
    made.var_names = [f"g{i}" for i in range(6)]
    made.obsm["X_pca"] = np.concatenate(blocks).astype(np.float32)
    made.obsm["spatial"] = np.tile(place, (len(patients), 1))
    return made


def test_a_new_patient_is_labelled_in_spite_of_its_level():
    cells = tissue()
    split = by_group(cells, "patient", ["B"])
    task = SpatialTask(label_key="pathology", group_key="patient").fit(cells[split.train])
    scores = task.evaluate(cells[split.test])
    assert scores.value("accuracy", method="linear on X_pca + neighbours") > 0.9


def test_sections_that_are_not_told_apart_are_refused():
    with pytest.raises(DataError, match=r"stand at the place of another.*section_key.*pathology"):
        SpatialTask(label_key="pathology").fit(tissue())
    named = tissue()
    named.obs["sample"] = named.obs["patient"]  # a usual name is taken
    SpatialTask(label_key="pathology").fit(named)
    SpatialTask(label_key="pathology").fit(tissue("A"))


def test_a_range_ends_within_a_twentieth_of_the_section():
    rng = np.random.default_rng(0)
    own, places = rng.normal(size=(200, 2)), rng.uniform(size=(200, 2))
    one = np.full(200, "")
    wide = neighbourhood_features(own, places, one, [6, 60])
    assert np.array_equal(wide, neighbourhood_features(own, places, one, [6, 10]))


def test_each_patient_in_turn_from_the_command_line(tmp_path, capsys):
    path = tmp_path / "tissue.h5ad"
    tissue(missing=0.1).write_h5ad(path)
    more = ["--set", "label_key=pathology", "--split", "each:patient"]
    assert main(["bench", "spatial", str(path), "--modality", "rna", *more]) == 0
    said = capsys.readouterr().out
    assert "patient=C: " in said
    assert said.count("patient=") == 4
    assert main(["task", "spatial", f"rna={path}", *more]) == 2
    assert "leaves each group out in turn" in capsys.readouterr().err
    one = ["--set", "label_key=pathology", "--set", "group_key=patient"]
    assert main(["task", "spatial", f"rna={path}", *one]) == 0  # whole patients by default
