"""Numbers belong to (seed, name, purpose, counter)."""

import numpy as np

from cellweave.kernels.counter_random import cell_keys, short_mix, uniform


def test_keys_depend_on_all_parts_and_on_nothing_else():
    names = np.array(["a", "b", "cell with a longer name", ""])
    keys = cell_keys(names, seed=0, purpose="x")
    assert len(set(keys.tolist())) == 4
    assert np.array_equal(cell_keys(names[::-1], seed=0, purpose="x"), keys[::-1])
    assert np.array_equal(cell_keys(names[:1], seed=0, purpose="x"), keys[:1])
    assert not np.any(cell_keys(names, seed=1, purpose="x") == keys)
    assert not np.any(cell_keys(names, seed=0, purpose="y") == keys)


def test_draws_are_uniform_and_uncorrelated():
    keys = cell_keys(np.array([f"c{i}" for i in range(2000)]), seed=3, purpose="x")
    draws = np.array([[uniform(k, c) for c in range(20)] for k in keys])
    assert abs(draws.mean() - 0.5) < 0.01
    assert np.abs(np.corrcoef(draws.T) - np.eye(20)).max() < 0.12
    assert np.bincount((draws.ravel() * 16).astype(int), minlength=16).min() > 2300


def test_short_draws_are_even_and_independent_of_neighbouring_keys_and_counters():
    keys = cell_keys(np.array([f"c{i}" for i in range(300)]), seed=0, purpose="t")
    drawn = np.array([[short_mix(key, c) for c in range(300)] for key in keys], dtype=np.uint64)
    share = drawn.astype(float) / 2.0**32
    counts = np.histogram(share, bins=50, range=(0, 1))[0]
    expected = share.size / 50
    assert (((counts - expected) ** 2 / expected).sum()) < 49 + 5 * np.sqrt(2 * 49)  # chi-square
    centred = share - 0.5
    for left, right in ((centred[:, 1:], centred[:, :-1]), (centred[1:], centred[:-1])):
        correlation = (left * right).mean() * 12
        assert abs(correlation) < 5 / np.sqrt(left.size)


def test_no_cells_have_no_keys():
    for names in (np.array([], dtype=str), np.array([], dtype="U7"), np.array([], dtype=object)):
        assert len(cell_keys(names, seed=0, purpose="t")) == 0
