"""Bins against numpy.quantile and two-sided numpy.digitize, the published rule."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellweave.kernels.binning import log2_bins, quantile_bins, uniform_bins
from cellweave.kernels.counter_random import cell_keys


def admissible(values, n_bins):
    """Return the lowest and highest bin of each value by the published rule."""
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    above = np.digitize(values, edges)
    below = np.digitize(values, edges, right=True)
    return np.where(above > below, below + 1, above), above


def binned(values, n_bins, ties, *, target=0.0, use_log=False, names=("a",)):
    n = len(values)
    ids, bins = np.empty(n, np.int32), np.empty(n, np.float32)
    quantile_bins(
        np.array([0, n]), np.arange(n, dtype=np.uint32), np.asarray(values, np.float32),
        np.arange(n, dtype=np.int32), np.array([float(np.sum(values))]), target, use_log,
        n_bins, ties, cell_keys(np.array(names), seed=0, purpose="t"), np.array([0]), ids, bins,
    )  # fmt: skip
    assert ids.tolist() == list(range(n))
    return bins


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(3, 60))
@settings(max_examples=80, deadline=None)
def test_lies_in_the_admissible_set(seed, whole, n_bins):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    values = (1 + rng.negative_binomial(1, 0.2, n) if whole else rng.lognormal(0, 1, n)).astype(
        "f4"
    )
    low, high = admissible(values, n_bins)
    assert np.array_equal(binned(values, n_bins, 1), np.maximum(low, 1))
    assert np.array_equal(binned(values, n_bins, 2), np.maximum(high, 1))
    drawn = binned(values, n_bins, 0)
    assert np.all((drawn >= low) & (drawn <= high))


def test_histogram_path_and_sorting_path_agree_after_normalising():
    values = np.random.default_rng(1).integers(1, 40, 500).astype("f4")
    target = 1e4
    scaled = np.log1p((values * np.float32(target / values.sum())).astype("f4"))
    # float32 log1p may differ in the last bit, on either side: edges are moved by two of them.
    edges = np.quantile(scaled, np.linspace(0, 1, 50))
    slack = 2 * np.spacing(np.float32(scaled.max()))
    fewest = np.maximum(np.digitize(scaled, edges + slack), 1)
    most = np.maximum(np.digitize(scaled, edges - slack), 1)
    got = binned(values, 51, 2, target=target, use_log=True)
    assert np.all((fewest <= got) & (got <= most))
    by_sorting = binned(values + np.float32(2**-13), 51, 2)  # no whole numbers any more
    assert np.array_equal(by_sorting, binned(values, 51, 2))


def test_ties_are_drawn_evenly():
    values = np.ones(4000, dtype="f4")
    drawn = binned(values, 11, 0)
    counts = np.bincount(drawn.astype(int), minlength=11)[1:]
    assert counts.sum() == 4000
    assert abs(counts - 400).max() < 5 * np.sqrt(4000 * 0.1 * 0.9)


def test_log2_and_uniform_bins():
    values = np.array([0.5, 1, 3, 7, 8, 100], dtype="f4")
    ids, bins = np.empty(6, np.int32), np.empty(6, np.float32)
    cells = (np.array([0, 6]), np.arange(6, dtype=np.uint32), values, np.arange(6, dtype=np.int32))
    log2_bins(*cells, np.ones(1), 0.0, 5, np.array([0]), ids, bins)
    assert np.array_equal(bins, np.minimum(np.floor(np.log2(1 + values)), 5))
    uniform_bins(*cells, np.ones(1), 0.0, False, 10, np.array([0]), ids, bins)
    assert np.array_equal(bins, np.digitize(values, np.linspace(0, 100, 11), right=True))


def test_few_and_many_distinct_values_share_a_kernel_and_leave_nothing_behind():
    rng = np.random.default_rng(3)
    few = rng.choice(np.log1p(np.arange(1, 90) * 1.7), 900)
    many = rng.lognormal(0, 1, 5000)  # more distinct values than the hash table takes
    rows = [v.astype("f4") for v in (few, many, rng.integers(1, 50, 300), few[::-1], many[:40])]
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate([np.arange(len(r), dtype=np.uint32) for r in rows])
    ids, bins = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.float32)
    for ties, bound in ((1, 0), (2, 1)):
        quantile_bins(
            ends, columns, np.concatenate(rows), np.arange(5000, dtype=np.int32), np.ones(5), 0.0,
            False, 51, ties, np.zeros(5, np.uint64), ends[:-1], ids, bins,
        )  # fmt: skip
        for i, row in enumerate(rows):
            expected = np.maximum(admissible(row, 51)[bound], 1)
            assert np.array_equal(bins[ends[i] : ends[i + 1]], expected)
