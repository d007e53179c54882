"""Where cells should go, and how far an edit moves them there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

__all__ = ["Goal", "fit_goal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The centres of start and goal, or a direction of log-odds; nothing for impact alone."""

    start: np.ndarray | None = None
    goal: np.ndarray | None = None
    direction: np.ndarray | None = None

    def shift(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return one number a cell, larger for nearer to the goal."""
        if self.direction is not None:
            return np.asarray((after - before) @ self.direction)
        if self.start is None or self.goal is None:
            return 1.0 - _cosine(before, after)
        towards = _cosine(after, self.goal) - _cosine(before, self.goal)
        return towards - (_cosine(after, self.start) - _cosine(before, self.start))


def fit_goal(start: np.ndarray, goal: np.ndarray, *, how: str) -> Goal:
    """Learn from the embeddings of both states: their centres, or a classifier (``"probe"``)."""
    if how == "cosine":
        return Goal(start=start.mean(axis=0), goal=goal.mean(axis=0))
    points = np.concatenate([start, goal])
    centre = points.mean(axis=0)
    scale = float(np.sqrt(points.var(axis=0).mean())) or 1.0
    labels = np.repeat([0, 1], [len(start), len(goal)])
    model = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")
    model.fit((points - centre) / scale, labels)
    return Goal(direction=model.coef_[0] / scale)


def _cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    product = (left * right).sum(axis=-1)
    return np.divide(product, size, out=np.zeros_like(product), where=size > 0)
