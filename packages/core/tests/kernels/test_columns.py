"""Means of columns are those of float64, however the matrix is stored."""

import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.kernels.columns import column_means


@pytest.mark.parametrize("stored", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_means_of_float32_are_exact(stored):
    values = np.random.default_rng(0).random((50_000, 3)).astype(np.float32) + 5
    expected = values.astype(np.float64).mean(axis=0)
    assert np.abs(column_means(stored(values)) - expected).max() < 1e-12
