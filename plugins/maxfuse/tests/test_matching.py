"""Soft plans against their optimality conditions; assignment against scipy's full solution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from cellweave.errors import NumericalError
from cellweave_maxfuse import assign
from cellweave_maxfuse.cellmatches import match_cells
from cellweave_maxfuse.matching import SoftMatching, blocks_of, soft_plan


def unit(rng, n, d):
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_assignment_equals_scipy_on_500_by_800():
    rng = np.random.default_rng(0)
    x, y = unit(rng, 500, 8), unit(rng, 800, 8)
    rows, cols = assign(x, y)
    cost = 1 - x @ y.T
    i, j = linear_sum_assignment(cost)
    assert len(set(rows)) == len(set(cols)) == 500
    assert cost[rows, cols].sum() == pytest.approx(cost[i, j].sum(), abs=1e-4)


def test_assignment_does_not_depend_on_the_order_of_arguments():
    rng = np.random.default_rng(1)
    x, y = unit(rng, 60, 5), unit(rng, 90, 5)
    there, back = assign(x, y), assign(y, x)
    assert set(zip(*there, strict=True)) == set(zip(back[1], back[0], strict=True))


def test_blocks_hold_every_cell_once():
    blocks = list(blocks_of(1000, 700, 128))
    left = np.concatenate([b.left for b in blocks])
    right = np.concatenate([b.right for b in blocks])
    assert sorted(left) == list(range(1000))
    assert sorted(right) == list(range(700))
    assert max(len(b.left) for b in blocks) <= 128


def test_blocks_do_not_bring_equal_positions_together():
    together = np.mean([np.isin(b.left, b.right).mean() for b in blocks_of(1000, 1000, 100)])
    assert together < 0.2


def test_plan_keeps_masses_when_they_must_be_kept():
    rng = np.random.default_rng(2)
    cost = rng.random((40, 30)).astype(np.float32)
    mass = np.ones(40, np.float32), np.ones(30, np.float32)
    plan = soft_plan(cost.copy(), *mass, SoftMatching(epsilon=0.5, rho=1e6))
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 30, rtol=1e-3)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 40, rtol=1e-3)


def test_plan_is_the_minimum_of_its_objective():
    rng = np.random.default_rng(3)
    cost = rng.random((12, 9))
    a, b = np.full(12, 1 / 12), np.full(9, 1 / 9)
    settings = SoftMatching(epsilon=0.4, rho=0.8)
    spread = cost.std()
    eps, rho = settings.epsilon * spread, settings.rho * spread
    plan = soft_plan(
        cost.astype(np.float32), a.astype(np.float32), b.astype(np.float32), settings
    ).astype(float)

    def kl(p, q):
        return float((p * np.log(p / q) - p + q).sum())

    def objective(p):
        return (
            float((p * cost).sum())
            + eps * kl(p, np.outer(a, b))
            + rho * kl(p.sum(1), a)
            + rho * kl(p.sum(0), b)
        )

    # The plan is normalised to 1; the minimum has some total of its own.
    totals = np.linspace(0.3, 1.2, 181)
    best = totals[np.argmin([objective(t * plan) for t in totals])]
    least = objective(best * plan)
    for _ in range(50):
        other = best * plan * np.exp(0.05 * rng.standard_normal(plan.shape))
        assert objective(other) > least - 1e-7


def test_plan_leaves_a_missing_type_unmatched():
    rng = np.random.default_rng(4)
    centres = np.eye(3, 6, dtype=np.float32) * 4
    left = centres[np.repeat([0, 1, 2], 50)] + 0.3 * rng.standard_normal((150, 6))
    right = centres[np.repeat([0, 1], 50)] + 0.3 * rng.standard_normal((100, 6))
    unit_left = left / np.linalg.norm(left, axis=1, keepdims=True)
    unit_right = right / np.linalg.norm(right, axis=1, keepdims=True)
    cost = (1 - unit_left @ unit_right.T).astype(np.float32)
    mass = np.ones(150, np.float32), np.ones(100, np.float32)
    firm = soft_plan(cost.copy(), *mass, SoftMatching(epsilon=0.1, rho=100.0)).sum(axis=1)
    loose = soft_plan(cost.copy(), *mass, SoftMatching(epsilon=0.1, rho=0.5)).sum(axis=1)
    assert loose[100:].sum() < 0.5 * firm[100:].sum()


def test_nan_distances_are_refused():
    cost = np.full((5, 5), np.nan, dtype=np.float32)
    with pytest.raises(NumericalError, match=r"Soft matching of 5 with 5 cells gave a total of"):
        soft_plan(cost, np.ones(5), np.ones(5), SoftMatching(epsilon=0.1, rho=1.0))


def test_every_cell_has_a_match_and_scores_are_cosines():
    rng = np.random.default_rng(5)
    x, y = unit(rng, 80, 6), unit(rng, 50, 6)
    found = match_cells((x, y), (x, y), screen=0.3)
    assert set(found.rows) == set(range(80))
    assert set(found.cols) == set(range(50))
    cosine = np.einsum("ij,ij->i", x[found.rows], y[found.cols])
    np.testing.assert_allclose(found.scores, np.clip(cosine, 0, 1), atol=1e-6)
    assert found.n_pivots == 35
