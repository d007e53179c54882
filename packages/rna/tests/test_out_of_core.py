"""Preparation block by block against preparation in memory: the same numbers, at flat memory."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

import cellweave
from cellweave.data import lazy
from cellweave.errors import DataError
from cellweave_rna.modality import RnaModality

dask = pytest.importorskip("dask", reason="data larger than memory need the extra 'dask'")

SETTINGS = {
    "n_top_genes": 300,
    "batch_key": "batch",
    "n_components": 15,
    "min_counts": 800,
    "min_cells": 3,
    "max_mito_percent": 40,
}


@pytest.fixture(scope="module")
def raw():
    made = cellweave.datasets.simulate(n_cells=400, modalities=("rna",), seed=0, batches=3)["rna"]
    made.var_names = ["MT-1", "MT-2", *made.var_names[2:]]
    return made


@pytest.fixture
def read_lazily(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 17)
    cellweave.write(raw, tmp_path / "x.h5ad")
    found = cellweave.read(f"rna={tmp_path / 'x.h5ad'}", lazily=True)["rna"]
    assert found.X.numblocks[0] > 10
    return found


def test_blocks_give_what_memory_gives(raw, read_lazily):
    whole = RnaModality().prepare(raw, settings=SETTINGS).adata
    made = RnaModality().prepare(read_lazily, settings=SETTINGS).adata
    normalised, counts = made.X.compute(), made.layers["counts"].compute()
    assert 0 < made.n_obs < raw.n_obs
    assert list(made.obs_names) == list(whole.obs_names)
    assert list(made.var_names) == list(whole.var_names)
    assert made.var["highly_variable"].equals(whole.var["highly_variable"])
    assert np.allclose(made.var["standardised_variance"], whole.var["standardised_variance"])
    assert abs(normalised - whole.X).max() < 1e-5
    assert (counts != whole.layers["counts"]).nnz == 0
    # Two exact solvers of one decomposition: float32 of the scores is all that may differ.
    assert np.allclose(made.obsm["X_pca"], whole.obsm["X_pca"], atol=1e-4)
    assert np.allclose(made.varm["PCs"], whole.varm["PCs"], atol=1e-5)
    records = [json.loads(a.uns["preparation"])["steps"] for a in (made, whole)]
    assert records[0][:-1] == records[1][:-1]


def test_blocks_can_be_sent_to_a_cluster(raw, read_lazily):
    cloudpickle = pytest.importorskip("cloudpickle", reason="comes with dask")
    made = RnaModality().prepare(read_lazily, settings={"n_top_genes": 50}).adata
    sent = cloudpickle.loads(cloudpickle.dumps(made.X))
    assert (sent.compute() != RnaModality().prepare(raw).adata.X).nnz == 0


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_scanpys_flavours_work_on_blocks(raw, read_lazily, flavor):
    settings = {"flavor": flavor, "n_top_genes": 300, "min_cells": 3}
    whole = RnaModality().prepare(raw, settings=settings).adata
    made = RnaModality().prepare(read_lazily, settings=settings).adata
    assert made.var["highly_variable"].equals(whole.var["highly_variable"])


def test_quality_is_the_same(raw, read_lazily):
    whole, made = RnaModality().quality(raw), RnaModality().quality(read_lazily)
    assert whole.equals(made)


def test_wrong_values_are_placed_in_the_whole(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 17)
    broken = raw.copy()
    broken.X = sp.csr_matrix(broken.X)
    at = broken.X.indptr[250]
    broken.X.data[at] = 1.5
    cellweave.write(broken, tmp_path / "x.h5ad")
    found = cellweave.read(f"rna={tmp_path / 'x.h5ad'}", lazily=True)["rna"]
    with pytest.raises(DataError, match=rf"X\[250, {broken.X.indices[at]}\] = 1.5 is not a whole"):
        RnaModality().prepare(found)
