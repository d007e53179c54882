"""Bi-order CCA against the cells × cells form, plain CCA and what alpha = 1 must give."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.errors import NumericalError
from cellweave.weaving import link_agreement
from cellweave_bindsc import bi_order_cca
from cellweave_bindsc.biorder import BiOrderSettings
from cellweave_bindsc.rules import Chosen, choose, rank_above_floor


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((90, 3))
    x = shared[:50] @ rng.standard_normal((3, 8)) + rng.standard_normal((50, 8))
    z0 = shared[50:] @ rng.standard_normal((3, 8)) + rng.standard_normal((40, 8))
    y = shared[50:] @ rng.standard_normal((3, 6)) + rng.standard_normal((40, 6))
    return x, z0, y


def settings(**changes):
    return BiOrderSettings(**{"alpha": 0.5, "lam": 0.5, "n_components": 3, **changes})


def dense(x, z0, y, alpha, lam, k, turns):
    """The iteration as it is written, with features as rows and the cells × cells product."""
    x, z0, y = x.T, z0.T, y.T
    start = z0 / np.linalg.norm(z0)
    z = start
    for _ in range(turns):
        u, _, vt = np.linalg.svd(x.T @ z, full_matrices=False)
        by_cells = x @ u[:, :k] @ vt[:k]
        s, _, rt = np.linalg.svd(z @ y.T, full_matrices=False)
        by_features = s[:, :k] @ rt[:k] @ y
        pulled = lam * by_cells / np.linalg.norm(by_cells)
        pulled = pulled + (1 - lam) * by_features / np.linalg.norm(by_features)
        z = (1 - alpha) * pulled + alpha * start
    u, d, vt = np.linalg.svd(x.T @ z, full_matrices=False)
    return z, u[:, :k], d[:k], vt[:k].T


@pytest.mark.parametrize(("alpha", "lam"), [(0.1, 0.7), (0.5, 0.5), (0.3, 0.1)])
def test_equals_the_cells_by_cells_form(parts, alpha, lam):
    found = bi_order_cca(*parts, settings(alpha=alpha, lam=lam, max_iterations=4, tolerance=1e-15))
    z, u, d, v = dense(*parts, alpha, lam, 3, 4)
    np.testing.assert_allclose(found.transition, z.T, atol=1e-10)
    np.testing.assert_allclose(found.sizes, d, rtol=1e-10)
    np.testing.assert_allclose(found.left @ found.right.T, u @ v.T, atol=1e-9)


def test_alpha_one_returns_the_start(parts):
    found = bi_order_cca(*parts, settings(alpha=1.0))
    np.testing.assert_allclose(found.transition, parts[1] / np.linalg.norm(parts[1]), atol=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_first_left_step_is_plain_cca_of_the_start_for_any_lambda(parts, lam):
    x, z0, y = parts
    found = bi_order_cca(x, z0, y, settings(alpha=1.0, lam=lam, max_iterations=1))
    u, d, vt = np.linalg.svd(x @ z0.T / np.linalg.norm(z0))
    np.testing.assert_allclose(found.sizes, d[:3], rtol=1e-10)
    np.testing.assert_allclose(found.left @ found.right.T, u[:, :3] @ vt[:3], atol=1e-9)


def test_vectors_are_orthonormal(parts):
    found = bi_order_cca(*parts, settings())
    for vectors in (found.left, found.right, found.features_left, found.features_right):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-9)


def test_turns_stop_when_nothing_moves(parts):
    changes = bi_order_cca(*parts, settings(tolerance=0.05, max_iterations=60)).history["change"]
    assert changes[-1] < 0.05
    assert all(c >= 0.05 for c in changes[:-1])


def test_infinite_values_are_told(parts):
    x, z0, y = parts
    with pytest.raises(NumericalError, match="in turn 1"), np.errstate(all="ignore"):
        bi_order_cca(x, z0, y * 1e300 * 1e10, settings())


def test_rank_ends_where_the_floor_begins():
    floor = 1 + 0.01 * np.linspace(1, -1, 38)
    assert rank_above_floor(np.concatenate([np.linspace(5, 2, 12), floor])) == 12
    assert rank_above_floor(np.linspace(2, 1, 6)) == 6
    assert rank_above_floor(np.concatenate([[9.0], floor])) == 10


def test_given_parameters_stand_and_others_follow_the_rule(parts):
    x, z0, y = parts
    sizes = np.linalg.svd(x @ z0.T, compute_uv=False)
    kept = choose(x, z0, y, sizes, Chosen(alpha=0.33, lam=0.0, n_components=4))
    assert (kept.alpha, kept.lam, kept.n_components) == (0.33, 0.0, 4)
    asked = Chosen(alpha=-1, lam=-1, n_components=0)
    own = choose(x, z0, y, sizes, asked)
    assert 0.1 <= own.alpha <= 0.5
    assert 0.1 <= own.lam <= 0.9
    # What Y holds of Z0 may be replaced: a Y that holds all asks for the weakest pull.
    assert choose(x, z0, z0, sizes, asked).alpha == pytest.approx(0.1)


def test_agreement_is_high_for_true_links_and_chance_for_shuffled_ones():
    rng = np.random.default_rng(1)
    mixing = rng.standard_normal((4, 20))
    a = rng.standard_normal((300, 4)) @ mixing + rng.standard_normal((300, 20))
    b = rng.standard_normal((200, 4)) @ mixing + rng.standard_normal((200, 20))
    real, above = link_agreement(a, b)
    _, chance = link_agreement(a, b[:, rng.permutation(20)])
    assert real > 0.7
    assert above > 5
    assert above > 2 * abs(chance)
