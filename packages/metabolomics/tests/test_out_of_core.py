"""Metabolomics preparation block by block against preparation in memory, and its memory."""

import tracemalloc

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import cellweave
from cellweave.data import lazy
from cellweave_metabolomics import MetabolomicsModality

dask = pytest.importorskip("dask", reason="data larger than memory need the extra 'out-of-core'")


def image(width=24, height=20, n_ions=30, shuffled=False):
    rng = np.random.default_rng(0)
    y, x = np.divmod(np.arange(width * height), width)
    waves = np.sin(x[:, None] / rng.uniform(2, 9, n_ions) + y[:, None] / rng.uniform(2, 9, n_ions))
    values = rng.gamma(2, 30, (width * height, n_ions)) * (1.5 + waves)
    values *= rng.random(values.shape) < 0.6
    values[5] = 0
    made = anndata.AnnData(sp.csr_matrix(values.astype("f4")))
    made.obs_names = [f"p{i}" for i in range(width * height)]
    made.var_names = [f"mz-{100 + i}.5" for i in range(n_ions)]
    made.obsm["spatial"] = np.column_stack([x, y]).astype(float)
    return made[rng.permutation(made.n_obs)].copy() if shuffled else made


def read_in_blocks(adata, folder, monkeypatch):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 13)
    cellweave.write(adata, folder / "x.h5ad")
    read = cellweave.read(f"metab={folder / 'x.h5ad'}", lazily=True)["metab"]
    assert read.X.numblocks[0] > 5
    return read


@pytest.mark.parametrize("kind", ["tic", "median", "rms", "none"])
@pytest.mark.parametrize("space", ["raster", "shuffled", "none"])
def test_blocks_give_what_memory_gives(tmp_path, monkeypatch, kind, space):
    raw = image(shuffled=space == "shuffled")
    if space == "none":
        del raw.obsm["spatial"]
    settings = {"normalization": kind, "n_top_features": 20, "n_components": 8, "min_share": 0.1}
    whole = MetabolomicsModality().prepare(raw, settings=settings).adata
    read = read_in_blocks(raw, tmp_path, monkeypatch)
    made = MetabolomicsModality().prepare(read, settings=settings).adata
    assert MetabolomicsModality().quality(read).equals(MetabolomicsModality().quality(raw))
    assert abs(made.X.compute() - whole.X).max() < 1e-6
    assert made.var["highly_variable"].equals(whole.var["highly_variable"])
    if space != "none":
        assert np.allclose(made.var["morans_i"], whole.var["morans_i"], atol=1e-9)
    # In memory the scaled values are float32: seven digits of values up to ten.
    assert np.allclose(made.obsm["X_pca"], whole.obsm["X_pca"], atol=1e-4)
    cellweave.write(made, tmp_path / "out.h5ad")
    again = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert abs(again.X - whole.X).max() < 1e-6


@pytest.mark.parametrize("shuffled", [False, True])
def test_smoothing_reaches_across_blocks(tmp_path, monkeypatch, shuffled):
    raw = image(shuffled=shuffled)
    settings = {"smooth": 6, "n_components": 8}
    whole = MetabolomicsModality().prepare(raw, settings=settings).adata
    read = read_in_blocks(raw, tmp_path, monkeypatch)
    made = MetabolomicsModality().prepare(read, settings=settings).adata
    assert np.allclose(made.obsm["X_pca"], whole.obsm["X_pca"], atol=1e-4)


def test_memory_does_not_grow_with_the_pixels(tmp_path, monkeypatch):
    peaks = []
    for height in (50, 200):
        raw = image(width=80, height=height, n_ions=150)
        n_values = raw.X.nnz
        monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 17)
        cellweave.write(raw, tmp_path / "x.h5ad")
        del raw
        read = cellweave.read(f"metab={tmp_path / 'x.h5ad'}", lazily=True)["metab"]
        with dask.config.set(scheduler="synchronous"):
            tracemalloc.start()
            MetabolomicsModality().prepare(read, settings={"n_components": 5})
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # The graph and the components grow with the pixels, the values (8 bytes each) must not.
    assert peaks[1] - peaks[0] < 0.6 * n_values * 8
