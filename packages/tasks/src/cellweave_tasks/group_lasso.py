r"""Multinomial logistic regression that uses whole groups of columns, or none of a group.

.. math:: \min_{W, b}\; -\frac{1}{\sum w_i} \sum_i w_i \log p_{y_i}(x_i; W, b)
          + \lambda \sum_g \lVert W_g \rVert_F

by accelerated proximal gradients (Beck and Teboulle 2009) with the step from the bound
:math:`\tfrac12 \lVert \sqrt w Z \rVert^2 / \sum w` on the curvature, along a falling path of
:math:`\lambda`. Groups that cannot enter are set aside (strong rule, Tibshirani et al. 2012) and
the conditions of the optimum are checked over all of them afterwards, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["GroupLassoFit", "Problem", "largest_penalty", "lasso_path", "softmax"]

_STEPS = 500
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Columns in groups, one-hot labels, and a weight for each row."""

    table: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    @property
    def n_groups(self) -> int:
        """Count the groups."""
        return len(self.offsets) - 1

    def columns(self, groups: np.ndarray) -> np.ndarray:
        """Return the columns of some groups."""
        parts = [np.arange(self.offsets[g], self.offsets[g + 1]) for g in groups]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLassoFit:
    """The optimum at one penalty."""

    penalty: float
    weights: np.ndarray
    intercept: np.ndarray
    norms: np.ndarray

    def probabilities(self, table: np.ndarray) -> np.ndarray:
        """Return class probabilities of rows."""
        return softmax(table @ self.weights + self.intercept)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return rows that sum to one."""
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return grown / grown.sum(axis=1, keepdims=True)


def largest_penalty(problem: Problem) -> float:
    """Return the smallest penalty at which no group enters."""
    residual = _residual(problem, softmax(np.log(np.maximum(_shares(problem), 1e-12))))
    return float(_norms(problem.table.T @ residual, problem.offsets).max())


def lasso_path(
    problem: Problem, penalties: Sequence[float] | np.ndarray
) -> Iterator[GroupLassoFit]:
    """Yield the optimum at each penalty, largest first, each from the one before."""
    n_columns, n_classes = problem.table.shape[1], problem.labels.shape[1]
    weights = np.zeros((n_columns, n_classes), dtype=problem.table.dtype)
    intercept = np.log(np.maximum(_shares(problem)[0], 1e-12))
    before = largest_penalty(problem)
    gradient = problem.table.T @ _residual(problem, softmax(np.tile(intercept, (1, 1))))
    for penalty in penalties:
        norms = _norms(gradient, problem.offsets)
        used = norms >= 2 * penalty - before
        used |= _norms(weights, problem.offsets) > 0
        while True:
            groups = np.flatnonzero(used)
            columns = problem.columns(groups)
            part = problem.table[:, columns]
            found, intercept = _solve(problem, part, groups, penalty, weights[columns], intercept)
            weights[:] = 0
            weights[columns] = found
            gradient = problem.table.T @ _residual(problem, softmax(part @ found + intercept))
            late = (_norms(gradient, problem.offsets) > penalty * (1 + 1e-3)) & ~used
            if not late.any():
                break
            used |= late
        before = penalty
        yield GroupLassoFit(
            penalty=float(penalty),
            weights=weights.copy(),
            intercept=intercept,
            norms=_norms(weights, problem.offsets),
        )


def _solve(
    problem: Problem,
    part: np.ndarray,
    groups: np.ndarray,
    penalty: float,
    weights: np.ndarray,
    intercept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise over some groups; restarts where momentum points uphill."""
    sizes = np.diff(problem.offsets)[groups]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    step = 1 / max(_curvature(problem, part), 1e-12)
    point, ahead = weights, weights
    bias, bias_ahead = intercept, intercept
    momentum = 1.0
    for _ in range(_STEPS):
        residual = _residual(problem, softmax(part @ ahead + bias_ahead))
        new = _shrunk(ahead - step * (part.T @ residual), offsets, step * penalty)
        new_bias = bias_ahead - step * residual.sum(axis=0)
        change = new - point
        if float(((ahead - new) * change).sum()) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        pace = (momentum - 1) / following
        ahead, bias_ahead = new + pace * change, new_bias + pace * (new_bias - bias)
        size = max(float(np.abs(new).max(initial=0)), 1e-3)
        moved = max(float(np.abs(change).max(initial=0)), float(np.abs(new_bias - bias).max()))
        point, bias, momentum = new, new_bias, following
        if moved < _TOLERANCE * size:
            break
    return point, bias


def _curvature(problem: Problem, part: np.ndarray) -> float:
    """Bound the curvature by power iteration on the weighted columns, the intercept among them."""
    root = np.sqrt(problem.weights / problem.weights.sum()).astype(part.dtype)
    table = np.hstack([part, np.ones((len(part), 1), dtype=part.dtype)]) * root[:, None]
    vector = np.full(table.shape[1], 1 / np.sqrt(table.shape[1]), dtype=part.dtype)
    size = 1.0
    for _ in range(30):
        vector = table.T @ (table @ vector)
        size = float(np.linalg.norm(vector))
        if size < 1e-12:
            return 1e-12
        vector = vector / size
    return 0.5 * 1.05 * size


def _residual(problem: Problem, probabilities: np.ndarray) -> np.ndarray:
    scaled = problem.weights / problem.weights.sum()
    out: np.ndarray = (probabilities - problem.labels) * scaled[:, None]
    return out.astype(problem.table.dtype)


def _shares(problem: Problem) -> np.ndarray:
    scaled = problem.weights / problem.weights.sum()
    return np.asarray(scaled @ problem.labels)[None]


def _norms(weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    squares = (weights.astype(np.float64) ** 2).sum(axis=1)
    total = np.concatenate([[0.0], np.cumsum(squares)])
    return np.sqrt(np.maximum(total[offsets[1:]] - total[offsets[:-1]], 0.0))


def _shrunk(weights: np.ndarray, offsets: np.ndarray, by: float) -> np.ndarray:
    squares = (weights.astype(np.float64) ** 2).sum(axis=1)
    norms = np.sqrt(np.add.reduceat(squares, offsets[:-1])) if len(weights) else np.empty(0)
    factor = np.maximum(1 - by / np.maximum(norms, 1e-300), 0.0)
    return (weights * np.repeat(factor, np.diff(offsets))[:, None]).astype(weights.dtype)
