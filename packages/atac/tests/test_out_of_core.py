"""ATAC preparation block by block against preparation in memory."""

import numpy as np
import pytest

import cellweave
from cellweave.data import lazy
from cellweave_atac import AtacModality

pytest.importorskip("dask", reason="data larger than memory need the extra 'out-of-core'")


@pytest.mark.parametrize("more_cells_than_peaks", [False, True])
@pytest.mark.parametrize("binarize", [False, True])
def test_blocks_give_what_memory_gives(tmp_path, monkeypatch, more_cells_than_peaks, binarize):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 15)
    raw = cellweave.datasets.simulate(n_cells=200, modalities=("atac",), seed=0)["atac"]
    if more_cells_than_peaks:
        raw = raw[:, :150].copy()
    cellweave.write(raw, tmp_path / "x.h5ad")
    read = cellweave.read(f"atac={tmp_path / 'x.h5ad'}", lazily=True)["atac"]
    settings = {"n_components": 8, "binarize": binarize}
    whole = AtacModality().prepare(raw, settings=settings).adata
    made = AtacModality().prepare(read, settings=settings).adata
    assert abs(made.X.compute() - whole.X).max() < 1e-6
    assert made.var["n_cells"].equals(whole.var["n_cells"])
    # scikit-learn works in the float32 of the values, here sums are float64: about four digits.
    assert np.abs(made.obsm["X_lsi"] - whole.obsm["X_lsi"]).max() < 5e-3
    cellweave.write(made, tmp_path / "out.h5ad")
