"""Regression from an embedding to many values at once: ridge, kernel ridge, neighbours, a blend.

Penalties and widths are chosen on cells left out of training, by the mean correlation per column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import numpy as np

from cellweave.errors import ConfigError, closest, one_of
from cellweave.kernels.neighbours import nearest

__all__ = ["REGRESSORS", "Regressor", "column_correlations", "make_regressor"]

REGRESSORS = ("blend", "ridge", "knn", "kernel", "mean")
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_KERNEL_PENALTIES = (0.03, 0.3, 3.0, 30.0, 300.0)
_MOST_LANDMARKS = 1000


class Regressor(Protocol):
    """Fit on features and targets, then predict."""

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Self:
        """Learn and return ``self``."""
        ...

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return ``(n, n_targets)``."""
        ...


def make_regressor(name: str, *, seed: int = 0) -> Regressor:
    """Return a regressor by name."""
    makers: dict[str, Callable[[], Regressor]] = {
        "ridge": lambda: Ridge(seed=seed),
        "knn": Neighbours,
        "kernel": lambda: KernelRidge(seed=seed),
        "blend": lambda: Blend(seed=seed),
        "mean": Mean,
    }
    if name not in makers:
        msg = f"Unknown method {name!r}.{closest(name, makers)} Available: {one_of(makers)}."
        raise ConfigError(msg)
    return makers[name]()


def column_correlations(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of each column, 0 where the prediction is constant."""
    a, b = predicted - predicted.mean(axis=0), true - true.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    floor = 1e-12 * np.maximum(np.abs(true).max(axis=0), 1e-300)
    return np.divide((a * b).sum(axis=0), size, out=np.zeros_like(size), where=size > floor)


class Mean:
    """The mean of training for every cell."""

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Self:
        """Compute it and return ``self``."""
        self.mean = targets.mean(axis=0)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the same for all."""
        return np.tile(self.mean, (len(features), 1))


class Neighbours:
    """The mean of the nearest training cells."""

    def __init__(self, *, k: int = 30) -> None:
        self.k = k

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Self:
        """Keep the training cells and return ``self``."""
        self.points, self.targets = features, targets
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Average the neighbours' values."""
        at, _ = nearest(features, self.points, k=min(self.k, len(self.points)))
        return np.asarray(self.targets[at].mean(axis=1))


class Ridge:
    """Linear regression on standardised features; the penalty is chosen unless it is given."""

    def __init__(self, *, seed: int = 0, penalty: float | None = None) -> None:
        self.seed, self.penalty = seed, penalty

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Self:
        """Choose the penalty, solve in closed form, and return ``self``."""
        self.centre, self.scale = features.mean(axis=0), _scale(features)
        table = self._table(features)
        self.chosen = self.penalty or _best(table, targets, _PENALTIES, self.seed)[0]
        self.mean = targets.mean(axis=0)
        self.weights = _solve(table, targets - self.mean, self.chosen)
        return self

    def twin(self) -> Ridge:
        """Return an unfitted one with the penalty that was chosen."""
        return Ridge(seed=self.seed, penalty=self.chosen)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the linear prediction."""
        return np.asarray(self._table(features) @ self.weights + self.mean)

    def _table(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.centre) / self.scale, dtype=np.float64)


class KernelRidge:
    """Ridge on Gaussian kernels of landmark cells (Nyström), beside the features themselves.

    The width is the median distance between landmarks over all axes scaled alike; half of it and
    twice it are tried too.
    """

    def __init__(
        self, *, seed: int = 0, width: float | None = None, penalty: float | None = None
    ) -> None:
        self.seed, self.given = seed, (width, penalty)

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Self:
        """Choose width and penalty, solve, and return ``self``."""
        rng = np.random.default_rng(self.seed)
        self.centre = features.mean(axis=0)
        self.scale = float(np.sqrt(features.var(axis=0).mean())) or 1.0
        points = self._points(features)
        n_landmarks = min(_MOST_LANDMARKS, max(2, len(points) // 3))
        self.landmarks = points[np.sort(rng.choice(len(points), n_landmarks, replace=False))]
        self.mean = targets.mean(axis=0)
        width, penalty = self.given
        if width is None or penalty is None:
            width, penalty = self._choose(points, targets)
        self.width, self.chosen = width, penalty
        table = _normalised(points, self.landmarks, self.width)
        self.weights = _solve(table, targets - self.mean, self.chosen)
        return self

    def twin(self) -> KernelRidge:
        """Return an unfitted one with the width and the penalty that were chosen."""
        return KernelRidge(seed=self.seed, width=self.width, penalty=self.chosen)

    def _choose(self, points: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        middle = float(np.sqrt(np.median(_squares(self.landmarks[:300], self.landmarks)))) or 1.0
        best = (-np.inf, middle, 1.0)
        for width in (0.35 * middle, 0.6 * middle, middle):
            table = _normalised(points, self.landmarks, width)
            penalty, score = _best(table, targets, _KERNEL_PENALTIES, self.seed)
            best = max(best, (score, width, penalty))
        return best[1], best[2]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the prediction from the kernels."""
        table = _normalised(self._points(features), self.landmarks, self.width)
        return np.asarray(table @ self.weights + self.mean)

    def _points(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.centre) / self.scale, dtype=np.float64)


class Blend:
    """The mean of kernel ridge and neighbours: what one misses, the other often has."""

    def __init__(self, *, seed: int = 0) -> None:
        self.parts: tuple[Regressor, ...] = (KernelRidge(seed=seed), Neighbours())

    def fit(self, features: np.ndarray, targets: np.ndarray) -> Self:
        """Fit both and return ``self``."""
        for part in self.parts:
            part.fit(features, targets)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the mean of both."""
        return np.mean([part.predict(features) for part in self.parts], axis=0)


def _scale(features: np.ndarray) -> np.ndarray:
    spread = features.std(axis=0)
    return np.where(spread > 1e-8, spread, 1.0)


def _solve(table: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    gram = table.T @ table
    gram[np.diag_indices_from(gram)] += penalty
    return np.linalg.solve(gram, table.T @ targets)


def _best(
    table: np.ndarray, targets: np.ndarray, penalties: tuple[float, ...], seed: int
) -> tuple[float, float]:
    """Return the penalty of best mean correlation on a quarter of cells left out, and that."""
    order = np.random.default_rng(seed).permutation(len(table))
    out, kept = order[: len(order) // 4], order[len(order) // 4 :]
    if len(out) < 3:
        return penalties[len(penalties) // 2], 0.0
    known, mean = table[kept], targets[kept].mean(axis=0)
    gram, right = known.T @ known, known.T @ (targets[kept] - mean)
    scores = []
    for penalty in penalties:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), right)
        scores.append(float(column_correlations(table[out] @ weights, targets[out]).mean()))
    at = int(np.argmax(scores))
    return penalties[at], scores[at]


def _normalised(points: np.ndarray, landmarks: np.ndarray, width: float) -> np.ndarray:
    """Return kernels to the landmarks, and the points themselves for what is linear."""
    kernels = np.exp(-_squares(points, landmarks) / (2 * width**2))
    return np.hstack([kernels, points])


def _squares(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    own = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)
    return np.maximum(own - 2 * left @ right.T, 0.0)
