"""Spatial preparation block by block against preparation in memory."""

import numpy as np
import pytest

import cellweave
from cellweave.data import lazy
from cellweave_spatial import SpatialModality

pytest.importorskip("dask", reason="data larger than memory need the extra 'out-of-core'")


@pytest.mark.parametrize("n_top_genes", [100, 2000])
def test_blocks_give_what_memory_gives(tmp_path, monkeypatch, n_top_genes):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 14)
    raw = cellweave.datasets.simulate(n_cells=150, modalities=("spatial",), seed=0)["spatial"]
    cellweave.write(raw, tmp_path / "x.h5ad")
    read = cellweave.read(f"spatial={tmp_path / 'x.h5ad'}", lazily=True)["spatial"]
    assert read.X.numblocks[0] > 5
    settings = {"n_top_genes": n_top_genes, "n_components": 12}
    whole = SpatialModality().prepare(raw, settings=settings).adata
    made = SpatialModality().prepare(read, settings=settings).adata
    assert made.var["highly_variable"].equals(whole.var["highly_variable"])
    assert abs(made.X.compute() - whole.X).max() < 1e-5
    # In memory the scaled values are float32: seven digits of values up to ten.
    assert np.allclose(made.obsm["X_pca"], whole.obsm["X_pca"], atol=1e-3)
    assert (made.obsp["spatial_connectivities"] != whole.obsp["spatial_connectivities"]).nnz == 0
    cellweave.write(made, tmp_path / "out.h5ad")
