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
    written = rank_rows(
        np.asarray(indptr, np.int64), np.asarray(indices, np.uint32), np.asarray(data, np.float32),
        np.arange(len(factors), dtype=np.int32)[None], np.asarray(factors, float)[None],
        np.zeros(n, np.int64), np.asarray(totals, float), float(target), single,
        starts[:-1], np.asarray(lengths, np.int64),
        np.empty(0, np.uint64) if keys is None else keys, ids, values,
    )  # fmt: skip
    assert np.all(written <= lengths)
    return written, ids, values


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


@given(st.integers(0, 2**32 - 1), st.sampled_from(["ties", "wide", "close"]), st.integers(1, 700))
@settings(max_examples=60, deadline=None)
def test_long_rows_cut_early_equal_the_front_of_a_stable_sort(seed, kind, limit):
    rng = np.random.default_rng(seed)
    n = 2000
    columns = np.sort(rng.choice(3000, n, replace=False))
    factors = {
        "ties": np.repeat([1.0, 3.0, 7.0], 1000),
        "wide": rng.lognormal(0, 3, 3000),
        "close": 1 + rng.integers(0, 50, 3000) * 2.0**-30,
    }[kind]
    counts = rng.integers(1, 30 if kind == "ties" else 3, n).astype(np.float32)
    total = float(counts.sum())
    _, ids, _ = ranked([0, n], columns, counts, factors, [total], 1e4, limits=[limit])
    assert np.array_equal(ids, slow(columns, counts, factors, total, 1e4)[:limit])


def test_equal_values_of_unequal_keys_keep_the_order_of_the_row():
    """3/3, 7/7 and 1/1 are equal though their float32 keys are not."""
    counts = np.array([49, 3, 7, 1, 41, 11], dtype=np.float32)
    _, ids, _ = ranked([0, 6], np.arange(6), counts, counts.astype(float), [1.0], 0)
    assert ids.tolist() == list(range(6))
    _, ids, _ = ranked([0, 6], np.arange(6), counts[::-1], counts[::-1].astype(float), [1.0], 0)
    assert ids.tolist() == list(range(6))


def test_columns_without_an_id_leave_no_gap():
    tokens = np.array([[5, -1, 6, -1, 7]], dtype=np.int32)
    ids = np.full(5, -7, dtype=np.int32)
    written = rank_rows(
        np.array([0, 5]), np.arange(5, dtype=np.uint32), np.arange(1, 6, dtype=np.float32),
        tokens, np.ones((1, 5)), np.zeros(1, np.int64), np.ones(1), 0.0, False,
        np.array([0]), np.array([5]), np.empty(0, np.uint64), ids, np.empty(0, np.float32),
    )  # fmt: skip
    assert written.tolist() == [3]
    assert ids.tolist() == [7, 6, 5, -7, -7]
