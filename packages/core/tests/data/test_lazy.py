"""Matrices left in their files: the same values, block by block, and damage named."""

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

import cellweave
from cellweave.data import lazy
from cellweave.errors import ConfigError, UnreadableFileError

pytest.importorskip("dask", reason="data larger than memory need the extra 'out-of-core'")


@pytest.fixture
def cells(monkeypatch):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 4096)
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(0.4, (90, 60)).astype(np.float32))
    counts[:11] = 0  # a block of empty cells
    counts.eliminate_zeros()
    made = anndata.AnnData(counts, layers={"counts": counts.copy()})
    made.var_names = [f"ENSG{i:011d}" for i in range(60)]
    made.obs["batch"] = ["a", "b"] * 45
    made.obsm["X_pca"] = rng.normal(size=(90, 3))
    return made


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
@pytest.mark.parametrize("form", ["csr", "dense", "csc"])
def test_blocks_together_are_the_matrix(cells, tmp_path, ending, form):
    if form == "dense":
        cells.X = cells.X.toarray()
    if form == "csc":
        cells.X = cells.X.tocsc()
    path = tmp_path / f"x.{ending}"
    cellweave.write(cells, path)
    found = cellweave.read(path, lazily=True)["rna"]
    assert found.layers["counts"].numblocks[0] >= 3
    blocks = list(lazy.blocks_of(found))
    assert max(b.layers["counts"].nnz for b in blocks) <= 4096 // 8 + 60  # a cell is not cut
    together = sp.vstack([b.X for b in blocks]).toarray()
    assert np.array_equal(together, sp.csr_matrix(cells.X).toarray())
    assert list(found.obs["batch"]) == list(cells.obs["batch"])
    assert np.array_equal(found.obsm["X_pca"], cells.obsm["X_pca"])


def test_modalities_are_read_lazily_and_written_block_by_block(monkeypatch, tmp_path):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 8192)
    whole = cellweave.datasets.simulate(n_cells=60, modalities=("rna", "prot"), seed=0)
    cellweave.write(whole, tmp_path / "x.h5mu")
    found = cellweave.read(tmp_path / "x.h5mu", lazily=True)
    assert list(found.mod) == ["rna", "prot"]
    cellweave.write(found, tmp_path / "again.h5mu")
    again = cellweave.read(tmp_path / "again.h5mu")
    assert (again["rna"].X != whole["rna"].X).nnz == 0
    assert list(again.obs_names) == list(whole.obs_names)


def test_cell_rangers_h5_is_read_by_cells(cells, tmp_path):
    path, counts = tmp_path / "x.h5", cells.layers["counts"]
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        matrix["shape"] = np.array([60, 90])
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(counts, name).astype("i4")
        matrix["barcodes"] = [f"c{i}" for i in range(90)]
        features = matrix.create_group("features")
        features["id"] = features["name"] = [f"G{i}" for i in range(60)]
        features["feature_type"] = ["Gene Expression"] * 40 + ["Antibody Capture"] * 20
    found = cellweave.read(path, lazily=True)
    assert found["rna"].X.numblocks[0] >= 3
    together = sp.hstack([found["rna"].X.compute(), found["prot"].X.compute()])
    assert np.array_equal(together.toarray(), counts.toarray())


def test_names_are_enough_for_who_wants_no_values(cells, tmp_path):
    cellweave.write(cells, tmp_path / "x.h5ad")
    found = cellweave.read(tmp_path / "x.h5ad", values=False)["rna"]
    assert found.X is None
    assert not found.layers
    assert list(found.var_names) == list(cells.var_names)


def test_an_index_outside_is_named_when_its_block_is_read(cells, tmp_path):
    cells.write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "r+") as file:
        file["layers/counts/indices"][-1] = 60
    found = cellweave.read(tmp_path / "x.h5ad", lazily=True)["rna"]
    with pytest.raises(UnreadableFileError, match=r"x\.h5ad.*layers/counts points outside itself"):
        found.layers["counts"].compute(scheduler="synchronous")


def test_pointers_that_fall_are_refused_before_any_block(cells, tmp_path):
    cells.write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "r+") as file:
        file["X/indptr"][20] = 0
    with pytest.raises((UnreadableFileError, ConfigError), match="points outside itself"):
        cellweave.read(tmp_path / "x.h5ad", lazily=True)


def test_a_file_that_is_gone_is_an_error_that_names_it(cells, tmp_path):
    cellweave.write(cells, tmp_path / "x.h5ad")
    found = cellweave.read(tmp_path / "x.h5ad", lazily=True)["rna"]
    (tmp_path / "x.h5ad").unlink()
    with pytest.raises(UnreadableFileError, match=r"x\.h5ad.*cells \d+ to"):
        found.X.compute(scheduler="synchronous")


def test_size_is_what_matrices_unpack_to(cells, tmp_path):
    cellweave.write(cells, tmp_path / "x.h5ad")
    assert lazy.stored_bytes(tmp_path / "x.h5ad") == 2 * 8 * cells.X.nnz
    (tmp_path / "x.csv").write_text("a,b")
    assert lazy.stored_bytes(tmp_path / "x.csv") == 0
    assert 2**20 < lazy.free_memory() < 2**50
