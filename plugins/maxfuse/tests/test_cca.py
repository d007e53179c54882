"""Closed-form canonical correlation against scikit-learn's iterations and against definitions."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave_maxfuse import canonical_correlation
from cellweave_maxfuse.cca import common_axes, whitening
from cellweave_maxfuse.joint import compose_crosses


@pytest.fixture
def matched():
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((400, 4)) * [3, 2, 1.5, 1]
    x = shared @ rng.standard_normal((4, 9)) + rng.standard_normal((400, 9))
    y = shared @ rng.standard_normal((4, 7)) + rng.standard_normal((400, 7))
    return x, y


def test_equals_scikit_learn_up_to_sign_and_scale(matched):
    from sklearn.cross_decomposition import CCA

    x, y = matched
    ours = canonical_correlation(x, y, 4)
    theirs = CCA(n_components=4, max_iter=5000, tol=1e-12).fit(x, y)
    left, right = theirs.transform(x, y)
    known = [np.corrcoef(left[:, i], right[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(ours.correlations, known, atol=1e-4)
    mine = (x - x.mean(0)) @ ours.left
    for i in range(4):
        assert abs(np.corrcoef(mine[:, i], left[:, i])[0, 1]) > 0.999


def test_variates_are_white_and_correlations_are_theirs(matched):
    x, y = matched
    pairs = canonical_correlation(x, y, 7)
    a, b = (x - x.mean(0)) @ pairs.left, (y - y.mean(0)) @ pairs.right
    np.testing.assert_allclose(a.T @ a / len(a), np.eye(7), atol=1e-8)
    np.testing.assert_allclose(a.T @ b / len(a), np.diag(pairs.correlations), atol=1e-8)


def test_ridge_lowers_correlations(matched):
    plain, damped = (canonical_correlation(*matched, 4, ridge=r).correlations for r in (0.0, 0.5))
    assert np.all(damped < plain)


def test_constant_directions_are_dropped():
    x = np.random.default_rng(0).standard_normal((50, 3))
    assert whitening(np.hstack([x - x.mean(0), np.zeros((50, 2))]), 0.0).shape == (5, 3)


def test_three_sides_with_one_twice_agree_with_two():
    rng = np.random.default_rng(1)
    q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    cross = q @ np.diag([0.9, 0.7, 0.5, 0.3, 0.2, 0.1])
    two, sizes = common_axes({("a", "b"): cross}, {"a": 6, "b": 6}, 3)
    # c is a copy of b: then the common axes of all three are those of the two.
    three, _ = common_axes(
        {("a", "b"): cross, ("a", "c"): cross, ("b", "c"): np.eye(6)}, {"a": 6, "b": 6, "c": 6}, 3
    )
    np.testing.assert_allclose(sizes, [0.9, 0.7, 0.5], atol=1e-10)
    np.testing.assert_allclose(three["b"], three["c"], atol=1e-8)
    for i in range(3):
        cosine = two["b"][:, i] @ three["b"][:, i] / np.linalg.norm(three["b"][:, i])
        assert abs(cosine) / np.linalg.norm(two["b"][:, i]) > 0.999


def test_unlinked_modalities_meet_through_the_hub():
    rng = np.random.default_rng(2)
    ah, hb = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    all_pairs = compose_crosses({("a", "h"): ah, ("b", "h"): hb.T}, ("a", "b", "h"))
    np.testing.assert_allclose(all_pairs["a", "b"], ah @ hb)
