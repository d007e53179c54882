from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellweave.linking import overlapping_pairs, signed_distance
from cellweave.linking.intervals import ragged_ranges


def bed_distance(left: tuple[int, int], right: tuple[int, int]) -> int:
    if left[0] < right[1] and right[0] < left[1]:
        return 0
    return left[1] - right[0] - 1 if left[1] <= right[0] else left[0] - right[1] + 1


def brute_pairs(query, target, reach):
    return [
        (i, j)
        for i, (c, s, e) in enumerate(zip(*query))
        for j, (d, t, f) in enumerate(zip(*target))
        if c == d >= 0 and abs(bed_distance((s, e), (t, f))) <= reach
    ]


def drawn(rng, n, longest=40):
    codes = rng.integers(-1, 3, n)
    starts = rng.integers(0, 200, n)
    return codes, starts, starts + rng.integers(1, longest, n)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([0, 1, 2, 17]), st.integers(0, 30), st.integers(0, 30)
)
def test_pairs_equal_brute_force(seed, reach, n, m):
    rng = np.random.default_rng(seed)
    query, target = drawn(rng, n), drawn(rng, m, longest=150)
    i, j = overlapping_pairs(query, target, reach=reach)
    assert list(zip(i, j)) == brute_pairs(query, target, reach)


def test_touching_intervals_are_one_apart():
    one = (np.array([0]), np.array([10]), np.array([20]))
    two = (np.array([0, 0]), np.array([20, 21]), np.array([30, 31]))
    assert len(overlapping_pairs(one, two, reach=0)[0]) == 0
    assert overlapping_pairs(one, two, reach=1)[1].tolist() == [0]
    assert overlapping_pairs(one, two, reach=2)[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("left", "right"), [((0, 5), (3, 9)), ((0, 5), (5, 9)), ((0, 5), (9, 12)), ((9, 12), (0, 5))]
)
def test_signed_distance_follows_bed(left, right):
    got = signed_distance(*(np.array([v]) for v in (*left, *right)))
    assert got[0] == bed_distance(left, right)


def test_reach_does_not_cross_chromosomes():
    query = (np.array([0]), np.array([100]), np.array([200]))
    target = (np.array([1]), np.array([100]), np.array([200]))
    assert len(overlapping_pairs(query, target, reach=10**9)[0]) == 0


def test_one_huge_interval_does_not_slow_the_join():
    """The output decides the cost, not the longest interval."""
    n = 200_000
    starts = np.arange(n) * 100
    starts[0], ends = 0, starts + 50
    ends[0] = 10**8
    target = (np.zeros(n, int), starts, ends)
    query = (np.zeros(1000, int), np.arange(1000) * 1000 + 75, np.arange(1000) * 1000 + 80)
    i, _ = overlapping_pairs(query, target)
    assert len(i) == 1000


def test_ragged_ranges_spread():
    owner, at = ragged_ranges(np.array([3, 5, 9]), np.array([5, 5, 11]))
    assert owner.tolist() == [0, 0, 2, 2]
    assert at.tolist() == [3, 4, 9, 10]
