"""The classifiers of annotation: linear probe, neighbours, prototypes; and their baselines.

Each is fitted on features and labels, and gives class probabilities and a novelty: how unlike all
training cells a cell is, for flagging types that training never saw.
"""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from sklearn.linear_model import LogisticRegression

from cellweave.errors import ConfigError, closest, one_of
from cellweave.kernels.neighbours import nearest

__all__ = ["CLASSIFIERS", "Classifier", "make_classifier"]


class Classifier(Protocol):
    """Fit, then give probabilities and novelty."""

    classes: np.ndarray

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Learn and return ``self``."""
        ...

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return ``(n, n_classes)``, rows summing to 1."""
        ...

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Return ``(n,)``, higher for cells unlike any seen."""
        ...


class _Scaled:
    """Centre and scale features as the training cells were."""

    def fit(self, features: np.ndarray) -> Self:
        self.mean = features.mean(axis=0)
        # One scale for all axes: single axes of an embedding carry their weight in their size.
        self.scale = float(np.sqrt(features.var(axis=0).mean())) or 1.0
        return self

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.mean) / self.scale, dtype=np.float32)


class NeighbourNovelty:
    """Distance to the nearest training cells, relative to theirs among each other."""

    def __init__(self, k: int = 10) -> None:
        self.k = k

    def fit(self, points: np.ndarray) -> Self:
        """Keep the training cells and how far each is from its own neighbours."""
        self.points = points
        k = min(self.k, len(points) - 1)
        _, own = nearest(points, k=k, exclude_self=True)
        self.own = np.maximum(own.mean(axis=1), 1e-9)
        return self

    def __call__(self, points: np.ndarray) -> np.ndarray:
        k = min(self.k, len(self.points) - 1)
        at, distance = nearest(points, self.points, k=k)
        return np.asarray(distance.mean(axis=1) / np.median(self.own[at], axis=1))


class LinearProbe:
    """Multinomial logistic regression on the scaled features.

    Parameters
    ----------
    seed
        Of the solver.
    penalty
        Of the squared weights.
    balance
        How far rare types weigh more: 0 as counted, 1 all types alike. Half way loses neither the
        common nor the rare.
    """

    def __init__(self, *, seed: int = 0, penalty: float = 30.0, balance: float = 0.5) -> None:
        self.seed, self.penalty, self.balance = seed, penalty, balance

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Learn and return ``self``."""
        self.scaled = _Scaled().fit(features)
        points = self.scaled(features)
        _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        weights = (counts.mean() / counts) ** self.balance
        self.model = LogisticRegression(
            C=1 / self.penalty, max_iter=1000, tol=1e-3, random_state=self.seed
        ).fit(points, labels, sample_weight=(weights / weights[codes].mean())[codes])
        self.classes = self.model.classes_
        self.neighbours = NeighbourNovelty().fit(points)
        return self

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the model's probabilities."""
        return np.asarray(self.model.predict_proba(self.scaled(features)))

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Return the relative distance to the training cells."""
        return self.neighbours(self.scaled(features))


class Blend:
    """The mean of two linear probes that err differently: few axes as counted, many balanced.

    Parameters
    ----------
    width
        Columns of the first view; the rest are the second.
    seed
        Of the solvers.
    """

    def __init__(self, *, width: int, seed: int = 0) -> None:
        self.width = width
        self.first = LinearProbe(seed=seed, penalty=10.0, balance=0.0)
        self.second = LinearProbe(seed=seed, penalty=30.0, balance=1.0)

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Learn from both views and return ``self``."""
        self.first.fit(features[:, : self.width], labels)
        self.second.fit(features[:, self.width :], labels)
        self.classes = self.first.classes
        return self

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the mean of both."""
        parts = features[:, : self.width], features[:, self.width :]
        return (self.first.probabilities(parts[0]) + self.second.probabilities(parts[1])) / 2

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Return the relative distance to the training cells in the first view."""
        return self.first.novelty(features[:, : self.width])


class KNeighbours:
    """Reference mapping: the labels of the nearest training cells, near ones weighing more."""

    def __init__(self, *, k: int = 15) -> None:
        self.k = k

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Keep the reference and return ``self``."""
        self.scaled = _Scaled().fit(features)
        self.points = self.scaled(features)
        self.classes, self.codes = np.unique(labels, return_inverse=True)
        self.neighbours = NeighbourNovelty().fit(self.points)
        return self

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the neighbours' votes."""
        k = min(self.k, len(self.points))
        at, distance = nearest(self.scaled(features), self.points, k=k)
        width = np.maximum(distance[:, -1:], 1e-12)
        weights = np.exp(-((distance / width) ** 2))
        votes = np.zeros((len(at), len(self.classes)))
        rows = np.repeat(np.arange(len(at)), k)
        np.add.at(votes, (rows, self.codes[at].ravel()), weights.ravel())
        return votes / votes.sum(axis=1, keepdims=True)

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Return the relative distance to the reference."""
        return self.neighbours(self.scaled(features))


class Prototypes:
    """One mean a type; probabilities fall with the squared distance to it."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Compute the means and the common spread, and return ``self``."""
        self.scaled = _Scaled().fit(features)
        points = self.scaled(features)
        self.classes, codes = np.unique(labels, return_inverse=True)
        self.means = np.stack([points[codes == c].mean(axis=0) for c in range(len(self.classes))])
        squares = ((points - self.means[codes]) ** 2).sum(axis=1)
        self.spread = float(squares.mean()) or 1.0
        return self

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the softmax of minus the squared distances."""
        logits = -self._squares(features) * features.shape[1] / (2 * self.spread)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Return the squared distance to the nearest mean, relative to the spread."""
        return np.asarray(self._squares(features).min(axis=1) / self.spread)

    def _squares(self, features: np.ndarray) -> np.ndarray:
        points = self.scaled(features)
        own = (points**2).sum(axis=1)[:, None]
        return np.maximum(own + (self.means**2).sum(axis=1) - 2 * points @ self.means.T, 0.0)


class Majority:
    """The commonest type for every cell: what any method must beat."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Count the types and return ``self``."""
        self.classes, counts = np.unique(labels, return_counts=True)
        self.shares = counts / counts.sum()
        return self

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the shares of the types in training."""
        return np.tile(self.shares, (features.shape[0], 1))

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Return the same for every cell."""
        return np.zeros(features.shape[0])


CLASSIFIERS = ("linear", "knn", "prototype", "majority")


def make_classifier(name: str, *, seed: int = 0) -> Classifier:
    """Return a classifier by name."""
    if name == "linear":
        return LinearProbe(seed=seed)
    if name == "knn":
        return KNeighbours()
    if name == "prototype":
        return Prototypes()
    if name == "majority":
        return Majority()
    msg = f"Unknown method {name!r}.{closest(name, CLASSIFIERS)} Available: {one_of(CLASSIFIERS)}."
    raise ConfigError(msg)
