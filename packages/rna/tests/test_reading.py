"""Loom is converted; a file that is none is named."""

import h5py
import numpy as np
import pytest

from cellweave.errors import UnreadableFileError
from cellweave_rna.modality import RnaModality


def test_loom(tmp_path):
    counts = np.random.default_rng(0).poisson(0.5, (30, 1200)).astype("f4")
    path = tmp_path / "cells.loom"
    with h5py.File(path, "w") as file:
        file["matrix"] = counts
        file["layers/spliced"] = counts + 1
        file["row_attrs/Gene"] = np.array([f"G{i}".encode() for i in range(30)])
        file["row_attrs/Wide"] = np.zeros((30, 2))
        file["col_attrs/CellID"] = np.array([f"c{i}".encode() for i in range(1200)])
        file["col_attrs/age"] = np.arange(1200)
    made = RnaModality().read(path)
    assert np.array_equal(made.X.toarray(), counts.T)
    assert np.array_equal(made.layers["spliced"].toarray(), counts.T + 1)
    assert (made.var_names[3], made.obs_names[7]) == ("G3", "c7")
    assert made.obs["age"].iloc[9] == 9
    assert "Wide" not in made.var


def test_what_is_no_loom_is_named(tmp_path):
    path = tmp_path / "other.loom"
    path.write_bytes(b"not hdf5")
    with pytest.raises(UnreadableFileError, match=r"Cannot read .*other.loom"):
        RnaModality().read(path)
    with h5py.File(path, "w") as file:
        file["matrix"] = np.zeros((2, 2))
    with pytest.raises(UnreadableFileError, match=r"lacks row_attrs, col_attrs"):
        RnaModality().read(path)
