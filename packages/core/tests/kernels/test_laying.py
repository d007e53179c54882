"""Rows are laid out, spread and scaled as plain numpy does it."""

import numpy as np
import pytest

from cellweave.kernels.binning import log2_bins
from cellweave.kernels.laying import lay_rows, spread_rows
from cellweave.kernels.scaling import write_scaled


def test_scaled_values_equal_numpy_whatever_repeats():
    data = np.array([1, 2, 1, 0, 300, 2.5, 1, 255, 256, 7e9, 2], dtype=np.float32)
    indptr, indices = np.array([0, 4, 8, 11]), np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2])
    tokens = np.array([5, 7, -1, 9], dtype=np.int32)
    scales = np.array([0.5, 0.5, 3], dtype=np.float32)
    kept = (tokens[indices] >= 0) & (data != 0)
    starts = np.array([0, 2, 5])
    row_scales = np.repeat(scales, np.diff(indptr))[kept]
    for log, change in ((True, np.log1p), (False, lambda x: x)):
        ids, values = np.empty(7, dtype=np.int32), np.empty(7, dtype=np.float32)
        write_scaled(indptr, indices, data, tokens, scales, log, starts, ids, values)
        assert ids.tolist() == tokens[indices[kept]].tolist()
        np.testing.assert_allclose(values, change(data[kept] * row_scales), rtol=3e-7)


@pytest.mark.parametrize("tokens", [np.arange(3, 9), np.array([4, 3, 9, 1, 7, 5])])
@pytest.mark.parametrize("bins", [False, True])
def test_what_is_kept_whole_is_written_the_same(tokens, bins):
    data = np.array([1, 2, 1, 600, 30, 2.5, 1, 25, 5, 5000, 2], dtype=np.float32)
    indptr, indices = np.array([0, 4, 4, 8, 11]), np.array([0, 1, 2, 5, 0, 1, 2, 3, 0, 1, 4])
    cells = (indptr, indices.astype(np.uint32), data, tokens.astype(np.int32))
    found = []
    for all_kept in (False, True):
        ids, values = np.zeros(13, dtype=np.int32), np.zeros(13, dtype=np.float32)
        out, starts = (indptr[:-1] + 1, ids, values), np.array([9, 1, 8, 3])
        if bins:
            log2_bins(*cells, starts.astype(float), 20.0, 5, *out, all_kept=all_kept)
        else:
            write_scaled(*cells, starts.astype(np.float32), True, *out, all_kept=all_kept)
        found.append((ids, values))
    assert all(np.array_equal(a, b) for a, b in zip(*found))
    assert found[1][0][1:12].tolist() == tokens[indices].tolist()
    if bins:
        scale = np.repeat(20.0 / starts, np.diff(indptr))
        expected = np.minimum(np.floor(np.log2(1 + data * scale)), 5)
        assert found[1][1][1:12].tolist() == expected.tolist()


def test_long_rows_are_cut_or_thinned_evenly():
    ids, values = np.arange(10, dtype=np.int32), np.arange(10, dtype=np.float32) / 2
    lengths, limits, starts = np.array([3, 7]), np.array([3, 4]), np.array([1, 5])
    out = np.full(9, -1, dtype=np.int32), np.full(9, -1, dtype=np.float32)
    no_keys = np.empty(0, dtype=np.uint64)
    lay_rows(ids, values, lengths, limits, no_keys, starts, *out)
    assert out[0].tolist() == [-1, 0, 1, 2, -1, 3, 4, 5, 6]
    times = np.zeros(10)
    for key in range(2000):
        keys = np.array([key, key], dtype=np.uint64)
        lay_rows(ids, values, lengths, limits, keys, starts, *out)
        drawn = out[0][5:]
        assert out[0][:5].tolist() == [-1, 0, 1, 2, -1]
        assert (np.diff(drawn) > 0).all()
        assert (out[1][5:] == drawn / 2).all()
        times[drawn] += 1
    # A share of 4/7 of 2000: five standard errors are 5 · sqrt(2000 · 4/7 · 3/7).
    assert np.abs(times[3:] - 2000 * 4 / 7).max() < 111


def test_values_are_spread_over_the_whole_list():
    out = np.full(8, -1, dtype=np.float32)
    places, values = np.array([2, 0, 1], dtype=np.int32), np.array([7, 8, 9], dtype=np.float32)
    spread_rows(np.array([1, 2]), places, values, np.array([0, 4]), 3, out)
    assert out.tolist() == [0, 0, 7, -1, 8, 9, 0, -1]
