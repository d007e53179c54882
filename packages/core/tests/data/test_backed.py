"""Cells left in their file give the same rows; what points outside itself is refused first."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.data.backed import backed_cells, can_be_backed
from cellweave.errors import ConfigError, UnreadableFileError
from cellweave.records import Embedding, Provenance
from cellweave.verbs.embed_file import embed_file


@pytest.fixture
def path(tmp_path):
    values = sp.random(50, 20, 0.3, format="csr", dtype=np.float32, random_state=0)
    obs = pd.DataFrame({"batch": ["a", "b"] * 25}, index=[f"c{i}" for i in range(50)])
    adata = anndata.AnnData(values, obs=obs)
    adata.layers["counts"] = values * 2
    adata.obsm["spatial"] = np.arange(100.0).reshape(50, 2)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


WHO = Provenance(component="sums", version="1")


class SumModel:
    """A model whose vector of a cell is its sum, read in blocks."""

    family = "sums"

    def embed(self, adata, *, batch_size, device):
        self.seen = [type(adata.layers["counts"]).__name__]
        blocks = [adata[i : i + batch_size] for i in range(0, adata.n_obs, batch_size)]
        values = np.concatenate([np.asarray(b.layers["counts"].sum(1)) for b in blocks])
        names = np.asarray(adata.obs_names, dtype=str)
        return Embedding(values=values, names=names, provenance=WHO)


def test_rows_are_those_of_the_file(path):
    whole = anndata.read_h5ad(path)
    assert can_be_backed(path)
    with backed_cells(path) as adata:
        assert not sp.issparse(adata.X)
        part = adata[7:31]
        assert (whole.X[7:31] != part.X).nnz == 0
        assert (part.layers["counts"] != whole.layers["counts"][7:31]).nnz == 0
        assert adata.obs["batch"].tolist() == whole.obs["batch"].tolist()
        assert np.array_equal(adata.obsm["spatial"], whole.obsm["spatial"])


def test_a_file_is_embedded_into_a_copy_without_being_read_whole(path, tmp_path):
    model, out = SumModel(), tmp_path / "out.h5ad"
    embed_file(path, model, out, key_added="X_sums", batch_size=7)
    assert model.seen == ["_CSRDataset"]
    whole, written = anndata.read_h5ad(path), anndata.read_h5ad(out)
    expected = np.asarray(whole.layers["counts"].sum(1))
    np.testing.assert_allclose(written.obsm["X_sums"], expected)
    assert "sums" in written.uns["X_sums"]["provenance"]
    assert (written.X != whole.X).nnz == 0
    embed_file(f"rna={out}", model, out, key_added="X_sums", batch_size=50)
    assert model.seen == ["_CSRDataset"]
    np.testing.assert_allclose(anndata.read_h5ad(out).obsm["X_sums"], expected)


def test_a_name_that_cannot_be_written_is_refused_before_work(path, tmp_path):
    model = SumModel()
    with pytest.raises(ConfigError, match=r"Cannot write cells to 'out\.csv'"):
        embed_file(path, model, tmp_path / "out.csv", key_added="X_sums")
    assert not hasattr(model, "seen")


def test_dense_files_are_read_whole(path, tmp_path):
    dense = anndata.read_h5ad(path)
    dense.X, dense.layers["counts"] = dense.X.toarray(), dense.layers["counts"].toarray()
    dense.var_names = [f"GENE{i}" for i in range(20)]
    dense.write_h5ad(tmp_path / "dense.h5ad")
    assert not can_be_backed(tmp_path / "dense.h5ad")
    assert not can_be_backed(tmp_path / "none.h5ad")


@pytest.mark.parametrize("key", ["X", "layers/counts"])
@pytest.mark.parametrize("wrong", [20, -1])
def test_a_matrix_that_points_outside_itself_is_refused_before_work(path, key, wrong):
    with h5py.File(path, "r+") as file:
        file[f"{key}/indices"][5] = wrong
    wanted = f"matrix {key} points outside itself"
    with pytest.raises(UnreadableFileError, match=wanted), backed_cells(path):
        pass
