"""Scores of predicted perturbation responses, by the definitions of GEARS and scPerturb.

A change is the mean of perturbed minus the mean of control cells. A prediction without any change
has no correlation; it scores 0 there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["DIRECTIONS", "e_distance", "ranks_of_own", "response_scores", "top_genes"]

# Metric: higher is better, best, chance.
DIRECTIONS: Mapping[str, tuple[bool, float, float | None]] = {
    "pearson_delta": (True, 1.0, 0.0),
    "pearson_delta_top20": (True, 1.0, 0.0),
    "direction_top20": (True, 1.0, 0.5),
    "mse": (False, 0.0, None),
    "mse_top20": (False, 0.0, None),
    "e_distance": (False, 0.0, None),
    "rank_of_own": (False, 0.0, 0.5),
}


def pearson(left: np.ndarray, right: np.ndarray) -> float:
    """Return the correlation, 0 where one side is constant."""
    a, b = left - left.mean(), right - right.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def top_genes(perturbed: np.ndarray, control: np.ndarray, n: int = 20) -> np.ndarray:
    """Return the genes of largest absolute Welch t between two sets of cells (dense)."""
    gap = perturbed.mean(axis=0) - control.mean(axis=0)
    noise = perturbed.var(axis=0) / len(perturbed) + control.var(axis=0) / len(control)
    t = np.divide(gap, np.sqrt(noise), out=np.zeros_like(gap), where=noise > 0)
    return np.argsort(-np.abs(t), kind="stable")[:n]


def response_scores(predicted: np.ndarray, true: np.ndarray, top: np.ndarray) -> dict[str, float]:
    """Score one predicted change against the true one."""
    return {
        "pearson_delta": pearson(predicted, true),
        "pearson_delta_top20": pearson(predicted[top], true[top]),
        "direction_top20": float((np.sign(predicted[top]) == np.sign(true[top])).mean()),
        "mse": float(((predicted - true) ** 2).mean()),
        "mse_top20": float(((predicted[top] - true[top]) ** 2).mean()),
    }


def e_distance(left: np.ndarray, right: np.ndarray) -> float:
    """Return the energy distance of two sets of points (Euclidean, unbiased within sets)."""
    across = _distances(left, right).mean()
    return float(2 * across - _within(left) - _within(right))


def ranks_of_own(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return for each row the share of other truths nearer to the prediction; ties count half."""
    away = _distances(predicted, true)
    own = np.diag(away)[:, None]
    close = np.isclose(away, own, rtol=1e-9, atol=0)
    nearer = ((away < own) & ~close).sum(axis=1) + 0.5 * (close.sum(axis=1) - 1)
    return nearer / max(len(true) - 1, 1)


def _within(points: np.ndarray) -> float:
    n = len(points)
    return float(_distances(points, points).sum() / (n * (n - 1))) if n > 1 else 0.0


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(np.maximum(squares, 0.0))
