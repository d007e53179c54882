"""Protein preparation block by block against preparation in memory, and its memory."""

import tracemalloc

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import cellweave
from cellweave.data import lazy
from cellweave_protein import ProteinModality

pytest.importorskip("dask", reason="data larger than memory need the extra 'out-of-core'")

MARKERS = ["CD3", "CD4", "CD8a", "CD19", "CD14", "CD16", "CD56", "IgG1", "IgG2a", "HTO-1"]


@pytest.fixture
def raw():
    rng = np.random.default_rng(0)
    counts = rng.negative_binomial(2, 0.05, (333, len(MARKERS)))
    counts[7] = 0
    made = anndata.AnnData(sp.csr_matrix(counts, dtype="f4"))
    made.obs_names = [f"c{i}" for i in range(333)]
    made.var_names = MARKERS
    return made


@pytest.mark.parametrize("normalization", ["clr_cells", "clr_features", "clr_seurat", "dsb"])
@pytest.mark.parametrize("keep_controls", [False, True])
def test_blocks_give_what_memory_gives(raw, tmp_path, monkeypatch, normalization, keep_controls):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 11)
    cellweave.write(raw, tmp_path / "x.h5ad")
    read = cellweave.read(f"prot={tmp_path / 'x.h5ad'}", lazily=True)["prot"]
    assert read.X.numblocks[0] > 5
    settings = {"normalization": normalization, "keep_controls": keep_controls, "n_components": 5}
    whole = ProteinModality().prepare(raw, settings=settings).adata
    made = ProteinModality().prepare(read, settings=settings).adata
    assert ProteinModality().quality(read).equals(ProteinModality().quality(raw))
    assert np.abs(made.X.compute() - whole.X).max() < 1e-6
    assert np.allclose(made.obsm["X_pca"], whole.obsm["X_pca"], atol=1e-5)
    assert np.allclose(made.varm["PCs"], whole.varm["PCs"], atol=1e-5)
    assert made.var.equals(whole.var)
    cellweave.write(made, tmp_path / "out.h5ad")
    again = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert np.abs(again.X - whole.X).max() < 1e-6
    assert (again.layers["counts"] != raw.X).nnz == 0


def test_memory_does_not_grow_with_the_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 17)
    dask = pytest.importorskip("dask")
    peaks = []
    for n in (4000, 16_000):
        rng = np.random.default_rng(0)
        made = anndata.AnnData(sp.csr_matrix(rng.poisson(3, (n, 200)).astype("f4")))
        made.obs_names = [f"c{i}" for i in range(n)]
        made.var_names = [f"CD{i}" for i in range(200)]
        cellweave.write(made, tmp_path / "x.h5ad")
        del made
        read = cellweave.read(f"prot={tmp_path / 'x.h5ad'}", lazily=True)["prot"]
        with dask.config.set(scheduler="synchronous"):
            tracemalloc.start()
            ProteinModality().prepare(read, settings={"n_components": 5})
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # Four times the cells: names and components grow, dense values (4 bytes each) must not.
    assert peaks[1] - peaks[0] < 0.5 * 12_000 * 200 * 4
