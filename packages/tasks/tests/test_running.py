"""What commands make of files and splits before a task is fitted."""

import numpy as np
import pytest

from cellweave.cli.app import main
from cellweave.errors import DataError
from cellweave_tasks import AnnotationTask, PerturbationTask, SpatialTask
from cellweave_tasks.running import default_split, only_labelled, with_group

from .planted_perturbations import perturbed_cells
from .test_annotation import blobs


def test_a_split_by_groups_names_the_groups():
    assert with_group("annotation", {}, "group:donor=d1") == {"group_key": "donor"}
    assert with_group("annotation", {}, "unseen:donor=0.2") == {"group_key": "donor"}
    assert with_group("annotation", {"group_key": "x"}, "each:donor") == {"group_key": "x"}
    assert with_group("annotation", {}, "fraction:0.2") == {}
    assert with_group("perturbation", {}, "group:donor=d1") == {}  # it knows no groups


def test_each_task_is_split_its_own_way():
    assert default_split(AnnotationTask()) == "fraction:0.2"
    assert default_split(AnnotationTask(group_key="donor")) == "unseen:donor=0.2"
    assert default_split(PerturbationTask()) == "perturbations"
    assert default_split(SpatialTask()) == "tiles:0.2"
    assert default_split(SpatialTask(group_key="patient")) == "unseen:patient=0.2"


def test_cells_without_a_label_are_left_out_and_counted():
    cells = blobs()
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(object)
    cells.obs.loc[cells.obs_names[:7], "cell_type"] = np.nan
    kept, note = only_labelled(AnnotationTask(), cells)
    assert kept.n_obs == cells.n_obs - 7
    assert note == f"7 of {cells.n_obs} cells have no obs['cell_type'] and are left out."
    screen = perturbed_cells(["ctrl", "G0", "G1"])
    screen.obs["condition"] = screen.obs["condition"].replace("G1", "nan")
    kept, note = only_labelled(PerturbationTask(), screen)
    assert set(kept.obs["condition"]) == {"ctrl", "G0"}
    assert "obs['condition'] or obs['cell_type']" in note
    assert only_labelled(AnnotationTask(), blobs())[1] == ""


def test_a_column_of_labels_that_is_not_there_is_asked_for():
    with pytest.raises(DataError, match=r"It has: .*--set label_key=NAME"):
        AnnotationTask(label_key="type").fit(blobs())


def test_a_screen_as_it_comes_is_scored(tmp_path, capsys):
    """Another column, numbered controls, guides, cells without a guide: no setting is needed."""
    screen = perturbed_cells(["ctrl", "G0", "G1", "G2", "G3"], n=16)
    guides = screen.obs["condition"].astype(str) + "_" + (np.arange(screen.n_obs) % 2).astype(str)
    screen.obs = screen.obs.drop(columns=["condition", "cell_type"])
    screen.obs["guide_identity"] = guides.str.replace("ctrl", "non-targeting")
    screen.obs.loc[screen.obs_names[:3], "guide_identity"] = np.nan
    path = tmp_path / "screen.h5ad"
    screen.write_h5ad(path)
    assert main(["task", "perturbation", str(path), "--modality", "rna"]) == 0
    said = capsys.readouterr().out
    assert "3 of 80 cells have no obs['guide_identity'] and are left out." in said
    assert "the mean of training perturbations" in said
