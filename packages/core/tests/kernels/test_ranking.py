"""The rank kernel against numpy's stable sort of exact values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellweave.kernels.counter_random import cell_keys
from cellweave.kernels.ranking import rank_rows


def ranked(indptr, indices, data, factors, totals, target, *, limits=None, keys=None, single=False):
    n = len(indptr) - 1
    lengths = np.diff(indptr) if limits is None else limits
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.full(starts[-1], -7, dtype=np.int32)
    values = np.zeros(starts[-1], dtype=np.float32)
    rank_rows(
        np.asarray(indptr, np.int64), np.asarray(indices, np.uint32), np.asarray(data, np.float32),
        np.arange(len(factors), dtype=np.int32)[None], np.asarray(factors, float)[None],
        np.zeros(n, np.int64), np.asarray(totals, float), float(target), single,
        starts[:-1], np.asarray(lengths, np.int64),
        np.empty(0, np.uint64) if keys is None else keys, ids, values,
    )  # fmt: skip
    return starts, ids, values


def slow(columns, counts, factors, total, target):
    values = counts.astype(np.float64) / total * target / factors[columns]
    return columns[np.argsort(-values, kind="stable")]


@given(st.integers(0, 2**32 - 1), st.sampled_from(["ties", "wide", "close"]))
@settings(max_examples=60, deadline=None)
def test_equals_a_stable_sort(seed, kind):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    columns = np.sort(rng.choice(500, n, replace=False))
    if kind == "ties":
        counts, factors = rng.integers(1, 4, n), np.ones(500)
    elif kind == "wide":
        counts, factors = 10 ** rng.uniform(-6, 6, n), 10 ** rng.uniform(-6, 6, 500)
    else:  # neighbours that float32 cannot tell apart, and that differ in float64
        counts, factors = np.ones(n), 1 + rng.integers(0, 50, 500) * 2.0**-30
    counts = counts.astype(np.float32)
    _, ids, _ = ranked([0, n], columns, counts, factors, [counts.sum()], 1e4)
    assert np.array_equal(ids, slow(columns, counts, factors, float(counts.sum()), 1e4))


def test_cut_rows_keep_the_best():
    rng = np.random.default_rng(0)
    counts = rng.permutation(300).astype(np.float32) + 1
    _, ids, _ = ranked([0, 300], np.arange(300), counts, np.ones(300), [1.0], 0, limits=[10])
    assert np.array_equal(ids, np.argsort(-counts)[:10])


def test_thinned_rows_keep_order_and_every_place_alike():
    counts = np.arange(100, 0, -1).astype(np.float32)
    names = np.array([f"cell{i}" for i in range(4000)])
    keys = cell_keys(names, seed=0, purpose="thin")
    indptr = np.arange(0, 100 * 4001, 100)
    _, ids, _ = ranked(
        indptr, np.tile(np.arange(100), 4000), np.tile(counts, 4000), np.ones(100),
        np.ones(4000), 0, limits=np.full(4000, 20), keys=keys,
    )  # fmt: skip
    ids = ids.reshape(4000, 20)
    assert np.all(np.diff(ids, axis=1) > 0)
    often = np.bincount(ids.ravel(), minlength=100)
    assert abs(often - 800).max() < 5 * np.sqrt(800 * 0.8)


@pytest.mark.parametrize("zeros", [True, False])
def test_stored_zeros_have_no_place(zeros):
    counts = np.array([0, 3, 0, 5], dtype=np.float32) if zeros else np.array([1, 3, 2, 5.0])
    limit = int((counts > 0).sum())
    _, ids, values = ranked([0, 4], np.arange(4), counts, np.ones(4), [8.0], 8.0, limits=[limit])
    assert np.array_equal(ids, np.argsort(-counts)[:limit])
    assert np.array_equal(values, np.sort(counts)[::-1][:limit])
