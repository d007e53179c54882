"""Vendors' folders: our plain readers by hand, and beside spatialdata-io where it is installed."""

import json

import numpy as np
import pandas as pd
import pytest

import cellweave
from cellweave.errors import ConfigError, UnreadableFileError
from cellweave_spatial import SpatialModality, read_through_spatialdata

WITHOUT = "spatialdata-io is not installed: pip install 'cellweave-spatial[io]'"


@pytest.mark.parametrize("parquet", [True, False])
def test_xenium(tmp_path, parquet, folders):
    counts, cells = folders.write_xenium(tmp_path, parquet=parquet)
    adata = SpatialModality().read(tmp_path)
    assert list(adata.var_names) == folders.GENES
    assert list(adata.obs_names) == cells
    assert np.array_equal(adata.X.toarray(), counts[:, :4])
    assert np.array_equal(adata.obs["control_counts"], counts[:, 4:].sum(axis=1))
    assert adata.obsm["spatial"][2].tolist() == [21.0, 6.5]
    assert adata.obs["cell_area"].tolist() == [50.0] * 6


@pytest.mark.parametrize("packed", [True, False])
def test_cosmx_in_places_that_hold_for_the_slide(tmp_path, packed, folders):
    counts = folders.write_cosmx(tmp_path, packed=packed)
    adata = SpatialModality().read(tmp_path)
    assert list(adata.var_names) == folders.GENES
    assert list(adata.obs_names) == ["1_1", "2_1", "3_1", "1_2", "2_2", "3_2"]
    assert np.array_equal(adata.X.toarray(), counts[:, :4])
    assert np.array_equal(adata.obs["control_counts"], counts[:, 4:].sum(axis=1))
    assert adata.obsm["spatial"][[0, 3]].tolist() == [[1010.0, 1.0], [2010.0, 1.0]]


def test_merscope(tmp_path, folders):
    counts, cells = folders.write_merscope(tmp_path)
    adata = SpatialModality().read(tmp_path)
    assert list(adata.obs_names) == cells
    assert np.array_equal(adata.X.toarray(), counts[:, :4])
    assert np.array_equal(adata.obs["control_counts"], counts[:, 4:].sum(axis=1))
    assert adata.obsm["spatial"][3].tolist() == [21.0, 6.0]


@pytest.mark.parametrize("writer", ["write_cosmx", "write_merscope"])
def test_a_folder_goes_through_the_doorway(tmp_path, writer, folders):
    getattr(folders, writer)(tmp_path)
    assert list(cellweave.read(tmp_path).mod) == ["spatial"]


def test_damage_is_named(tmp_path, folders):
    for name, spoil, told in [
        ("a", lambda f: folders.cut_short(f / "S0_exprMat_file.csv.gz"), r"exprMat_file\.csv\.gz"),
        ("b", lambda f: (f / "S0_metadata_file.csv.gz").unlink(), r"0 files like \*_metadata"),
        ("c", lambda f: (f / "S0_exprMat_file.csv.gz").write_bytes(b""), "exprMat_file"),
        ("d", lambda f: (f / "S0_exprMat_file.csv.gz").write_text("fov,cell_ID,A\n1,1,x\n"), "'x'"),
        ("e", lambda f: (f / "S0_metadata_file.csv.gz").write_text("fov,cell_ID\n"), "lacks the"),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        folders.write_cosmx(folder, packed=True)
        spoil(folder)
        with pytest.raises(UnreadableFileError, match=told):
            SpatialModality().read(folder)


def test_a_table_that_lost_cells_is_told(tmp_path, folders):
    folders.write_merscope(tmp_path)
    places = pd.read_csv(tmp_path / "cell_metadata.csv")
    places.iloc[:3].to_csv(tmp_path / "cell_metadata.csv", index=False)
    with pytest.raises(UnreadableFileError, match=r"2 of 5 cells .* have no place"):
        SpatialModality().read(tmp_path)


def test_visium_hd_asks_for_a_bin_size(tmp_path):
    (tmp_path / "binned_outputs" / "square_008um").mkdir(parents=True)
    with pytest.raises(UnreadableFileError, match=r"one bin size: .*square_008um"):
        SpatialModality().read(tmp_path)


def same(ours, theirs):
    shared = [g for g in theirs.var_names if g in set(ours.var_names)]
    assert set(ours.var_names) == set(shared)
    theirs = theirs[ours.obs_names]
    assert np.array_equal(ours[:, shared].to_df(), theirs[:, shared].to_df())
    assert np.allclose(ours.obsm["spatial"], theirs.obsm["spatial"])


def test_xenium_as_spatialdata_reads_it(tmp_path, folders):
    pytest.importorskip("spatialdata_io", reason=WITHOUT)
    _, cells = folders.write_xenium(tmp_path)
    folders.write_xenium_cells_zarr(tmp_path, cells)
    theirs = read_through_spatialdata(tmp_path, "xenium")
    theirs.obs_names = theirs.obs["cell_id"].astype(str)
    same(SpatialModality().read(tmp_path), theirs)


def test_cosmx_as_spatialdata_reads_it(tmp_path, folders):
    pytest.importorskip("spatialdata_io", reason=WITHOUT)
    folders.write_cosmx(tmp_path)
    same(SpatialModality().read(tmp_path), read_through_spatialdata(tmp_path, "cosmx"))


def test_merscope_as_spatialdata_reads_it(tmp_path, folders):
    pytest.importorskip("spatialdata_io", reason=WITHOUT)
    folders.write_merscope(tmp_path)
    places = pd.read_csv(tmp_path / "cell_metadata.csv", dtype={"EntityID": str})
    # There, rows are taken to be in one order.
    places.iloc[::-1].to_csv(tmp_path / "cell_metadata.csv", index=False)
    same(SpatialModality().read(tmp_path), read_through_spatialdata(tmp_path, "merscope"))


def test_visium_as_spatialdata_reads_it(tmp_path, folders):
    pytest.importorskip("spatialdata_io", reason=WITHOUT)
    folders.write_visium(tmp_path, header=True)
    factors = {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.1}
    factors["spot_diameter_fullres"] = 9
    (tmp_path / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    same(SpatialModality().read(tmp_path), read_through_spatialdata(tmp_path, "visium"))


def test_what_spatialdata_stumbles_over_is_our_error(tmp_path):
    pytest.importorskip("spatialdata_io", reason=WITHOUT)
    with pytest.raises(UnreadableFileError, match=r"cannot read .* as stereoseq"):
        read_through_spatialdata(tmp_path, "stereoseq")


def test_unknown_technologies_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'xenium'"):
        read_through_spatialdata(tmp_path, "xenum")
