"""The tiled kernels against the full matrix, ties and bad numbers included."""

import os

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples

from cellweave.errors import ConfigError, DataError
from cellweave.kernels import distances, neighbours, silhouette
from cellweave.kernels.distances import closer_counts
from cellweave.kernels.neighbours import nearest
from cellweave.kernels.silhouette import silhouette_widths


def brute_counts(x, y, metric="euclidean"):
    d = cdist(x, y, metric)
    own = np.diag(d)
    return (d < own[:, None]).sum(1), (d < own[None, :]).sum(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("noise", [0.01, 0.7, 5.0])
def test_counts_equal_the_full_matrix(rng, metric, noise):
    x = rng.normal(size=(700, 12))
    y = x + noise * rng.normal(size=x.shape)
    for got, wanted in zip(closer_counts(x, y, metric=metric), brute_counts(x, y, metric)):
        np.testing.assert_array_equal(got, wanted)


def test_counts_are_exact_where_float32_is_not(rng):
    x = 1e4 + 1e-3 * rng.normal(size=(400, 8))  # differences far below float32 at this offset
    y = x + 1e-4 * rng.normal(size=x.shape)
    for got, wanted in zip(closer_counts(x, y), brute_counts(x, y)):
        np.testing.assert_array_equal(got, wanted)


def test_ties_do_not_count(rng):
    x, y = (rng.integers(0, 3, (300, 3)).astype(float) for _ in range(2))
    for got, wanted in zip(closer_counts(x, y), brute_counts(x, y)):
        np.testing.assert_array_equal(got, wanted)
    same = np.ones((50, 4))
    assert closer_counts(same, same)[0].sum() == 0


def test_queries_keep_all_competitors(rng, monkeypatch):
    monkeypatch.setattr(distances, "_ROWS", 16)
    monkeypatch.setattr(distances, "_COLS", 32)
    x, y = rng.normal(size=(2, 210, 5))
    rows = rng.permutation(210)[:40]
    for got, wanted in zip(closer_counts(x, y, queries=rows), brute_counts(x, y)):
        np.testing.assert_array_equal(got, wanted[rows])
    for got, wanted in zip(closer_counts(x, y), brute_counts(x, y)):
        np.testing.assert_array_equal(got, wanted)


def test_a_bound_that_is_too_tight_is_caught(rng, monkeypatch):
    """Planted bug: without the band, rounding decides near ties, and the counts differ."""
    x = 1e4 + 1e-3 * rng.normal(size=(400, 8))
    x[0] = -1e4  # one far cell: the scale hides the others' differences from float32
    y = x + 1e-4 * rng.normal(size=x.shape)
    wanted = brute_counts(x, y)[0]
    np.testing.assert_array_equal(closer_counts(x, y)[0], wanted)
    monkeypatch.setattr(distances, "error_scale", lambda _: np.float32(0.0))
    assert (closer_counts(x, y)[0] != wanted).any()


@pytest.mark.parametrize("k", [1, 7, 60])
def test_nearest_is_exact(rng, monkeypatch, k):
    monkeypatch.setattr(neighbours, "_COLS", 64)
    for x, y in (
        (rng.normal(size=(90, 6)), rng.normal(size=(300, 6))),
        (rng.integers(0, 3, (90, 3)).astype(float), rng.integers(0, 3, (200, 3)).astype(float)),
        (rng.normal(size=(50, 6)) + 1e6, rng.normal(size=(100, 6)) + 1e6),
    ):
        squared = ((x[:, None] - y[None]) ** 2).sum(-1)
        order = np.argsort(squared, axis=1, kind="stable")[:, :k]
        indices, found = nearest(x, y, k)
        np.testing.assert_array_equal(indices, order)
        np.testing.assert_allclose(found**2, np.take_along_axis(squared, order, 1), atol=1e-9)


def test_nearest_leaves_itself_out_and_knows_cosine(rng):
    x = np.repeat(rng.normal(size=(30, 4)), 3, axis=0)  # twins: itself is not the only zero
    indices, found = nearest(x, k=2, exclude_self=True)
    assert (indices != np.arange(90)[:, None]).all()
    assert (found == 0).all()
    y = rng.normal(size=(80, 4))
    np.testing.assert_allclose(
        nearest(x, y, 5, metric="cosine")[1],
        np.sort(cdist(x, y, "cosine"), axis=1)[:, :5],
        atol=1e-12,
    )


@pytest.mark.skipif(
    "CELLWEAVE_SLOW_TESTS" not in os.environ,
    reason="pynndescent compiles for up to a minute; set CELLWEAVE_SLOW_TESTS=1 to run",
)
def test_approximate_search_finds_nearly_all(rng):
    x = rng.normal(size=(3000, 3)) @ rng.normal(size=(3, 20))
    exact, _ = nearest(x, k=10, exclude_self=True)
    close, _ = nearest(x, k=10, exclude_self=True, exact_up_to=100, seed=1)
    again, _ = nearest(x, k=10, exclude_self=True, exact_up_to=100, seed=1)
    np.testing.assert_array_equal(close, again)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, close)]) > 0.97


@pytest.mark.parametrize("n", [900, 128, 2 * 1024 + 128 + 3])
@pytest.mark.parametrize("most_sums", [1 << 26, 0])
def test_silhouette_equals_sklearn(rng, monkeypatch, n, most_sums):
    monkeypatch.setattr(silhouette, "_MOST_SUMS", most_sums)  # 0: every cell sums its own
    x = rng.normal(size=(n, 10)) + 3
    codes = rng.integers(0, 7, n)
    codes[0] = 7  # a label of one cell
    np.testing.assert_allclose(silhouette_widths(x, codes), silhouette_samples(x, codes), atol=1e-9)


def test_bad_input_is_told():
    x = np.zeros((5, 2))
    with pytest.raises(ConfigError, match="Metric 'manhattan' is not known"):
        nearest(x, x, 1, metric="manhattan")
    with pytest.raises(DataError, match="k=9 neighbours were asked for, 4 can be had"):
        nearest(x, k=9, exclude_self=True)
    with pytest.raises(DataError, match="NaN or infinity in row 2"):
        nearest(np.array([[0.0], [1.0], [np.nan]]), k=1)
    with pytest.raises(DataError, match="same number in both"):
        closer_counts(x, x[:3])
    with pytest.raises(DataError, match="one common space"):
        nearest(x, np.zeros((5, 3)), 1)
