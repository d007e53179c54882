r"""Models of a response :math:`y_{cd}` of cell :math:`c` to drug :math:`d` from both descriptions.

- ``bilinear``: :math:`y = \mu + a_d + b_c + u_c^\top W v_d`: the drug's and the cell's own level,
  measured where training has them and otherwise told by ridge from the description; and ridge on
  the products of principal axes for what is particular to the pair;
- ``ridge``, ``kernel``, ``knn``, ``mlp``: on both descriptions side by side.

Baselines: the mean of a drug, of a cell, both levels added, and of all; what training lacks counts
as average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from sklearn.neural_network import MLPRegressor

from cellweave.errors import ConfigError, closest, one_of
from cellweave_tasks.regressors import Ridge, make_regressor

__all__ = ["BASELINES", "METHODS", "DrugModel", "Pairs", "make_drug_model"]

METHODS = ("bilinear", "ridge", "kernel", "knn", "mlp")
BASELINES = ("mean per drug", "mean per cell", "drug + cell level", "mean")
_AXES = 20
_PRIOR = 1.0  # a level is drawn towards the average as if by so many average measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Rows of pairs: names and descriptions of both."""

    cells: np.ndarray
    drugs: np.ndarray
    cell_features: np.ndarray
    drug_features: np.ndarray


class DrugModel(Protocol):
    """Fit on pairs and responses, then predict."""

    def fit(self, pairs: Pairs, responses: np.ndarray) -> Self:
        """Learn and return ``self``."""
        ...

    def predict(self, pairs: Pairs) -> np.ndarray:
        """Return one response a pair."""
        ...


def make_drug_model(name: str, *, seed: int = 0) -> DrugModel:
    """Return a model, or a baseline, by name."""
    if name == "bilinear":
        return Bilinear(seed=seed)
    if name in METHODS:
        return Beside(name, seed=seed)
    levels = {
        "mean per drug": ("drugs",),
        "mean per cell": ("cells",),
        "drug + cell level": ("drugs", "cells"),
        "mean": (),
    }
    if name in levels:
        return Levels(levels[name])
    known = (*METHODS, *BASELINES)
    msg = f"Unknown method {name!r}.{closest(name, known)} Available: {one_of(known)}."
    raise ConfigError(msg)


class Levels:
    """The mean, and what each drug or cell adds to it on average."""

    def __init__(self, sides: tuple[str, ...], *, prior: float = 0.0) -> None:
        self.sides, self.prior = sides, prior

    def fit(self, pairs: Pairs, responses: np.ndarray) -> Self:
        """Average, one side after the other, twice around."""
        self.mean = float(responses.mean())
        self.added: dict[str, dict[str, float]] = {side: {} for side in self.sides}
        for _ in range(1 if len(self.sides) < 2 else 10):
            for side in self.sides:
                others = [s for s in self.sides if s != side]
                left = responses - self.mean - sum(self._of(s, pairs) for s in others)
                self.added[side] = _means(getattr(pairs, side), left, self.prior)
        return self

    def predict(self, pairs: Pairs) -> np.ndarray:
        """Return the sum of what is known."""
        base = np.full(len(pairs.drugs), self.mean)
        return base + sum((self._of(s, pairs) for s in self.sides), np.zeros(len(base)))

    def _of(self, side: str, pairs: Pairs) -> np.ndarray:
        known = self.added[side]
        return np.array([known.get(name, 0.0) for name in getattr(pairs, side).tolist()])


class Beside:
    """A regressor on both descriptions side by side."""

    def __init__(self, name: str, *, seed: int) -> None:
        self.name, self.seed = name, seed

    def fit(self, pairs: Pairs, responses: np.ndarray) -> Self:
        """Fit and return ``self``."""
        self.cells, self.drugs = (_Axes(f) for f in (pairs.cell_features, pairs.drug_features))
        table = self._table(pairs)
        self.mean, self.scale = float(responses.mean()), float(responses.std()) or 1.0
        targets = (responses - self.mean) / self.scale
        if self.name == "mlp":
            self.network = MLPRegressor(
                hidden_layer_sizes=(64, 32),
                alpha=1e-2,
                early_stopping=len(targets) >= 50,
                max_iter=300,
                random_state=self.seed,
            ).fit(table, targets)
        else:
            self.regressor = make_regressor(self.name, seed=self.seed).fit(table, targets[:, None])
        return self

    def predict(self, pairs: Pairs) -> np.ndarray:
        """Return one response a pair."""
        table = self._table(pairs)
        if self.name == "mlp":
            return np.asarray(self.network.predict(table)) * self.scale + self.mean
        return self.regressor.predict(table)[:, 0] * self.scale + self.mean

    def _table(self, pairs: Pairs) -> np.ndarray:
        return np.hstack([self.cells(pairs.cell_features), self.drugs(pairs.drug_features)])


class Bilinear:
    """Levels, told from descriptions where not measured, and products of axes for the pair."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def fit(self, pairs: Pairs, responses: np.ndarray) -> Self:
        """Fit levels, then what they leave."""
        self.axes = {"cells": _Axes(pairs.cell_features), "drugs": _Axes(pairs.drug_features)}
        self.levels = Levels(("drugs", "cells"), prior=_PRIOR).fit(pairs, responses)
        self.told = {side: self._side(side, pairs) for side in ("drugs", "cells")}
        left = responses - self.levels.predict(pairs)
        self.products = Ridge(seed=self.seed).fit(self._products(pairs), left[:, None])
        return self

    def predict(self, pairs: Pairs) -> np.ndarray:
        """Return the sum of mean, levels and what is particular to the pair."""
        found = np.full(len(pairs.drugs), self.levels.mean)
        for side in ("drugs", "cells"):
            found += self._level(side, pairs)
        return found + self.products.predict(self._products(pairs))[:, 0]

    def _side(self, side: str, pairs: Pairs) -> Ridge | None:
        known = self.levels.added[side]
        if len(known) < 4:
            return None
        names = getattr(pairs, side)
        kinds, first = np.unique(names, return_index=True)
        features = self.axes[side](_features(pairs, side)[first])
        targets = np.array([known[n] for n in kinds.tolist()])
        return Ridge(seed=self.seed).fit(features, targets[:, None])

    def _level(self, side: str, pairs: Pairs) -> np.ndarray:
        known, names = self.levels.added[side], getattr(pairs, side)
        new = np.array([n not in known for n in names.tolist()])
        found = np.array([known.get(n, 0.0) for n in names.tolist()])
        told = self.told[side]
        if new.any() and told is not None:
            found[new] = told.predict(self.axes[side](_features(pairs, side)[new]))[:, 0]
        return found

    def _products(self, pairs: Pairs) -> np.ndarray:
        left, right = (self.axes[s](_features(pairs, s)) for s in ("cells", "drugs"))
        return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


class _Axes:
    """Principal axes of the distinct rows, each of variance 1 or less by its share."""

    def __init__(self, features: np.ndarray) -> None:
        distinct = np.unique(features, axis=0)
        self.mean = distinct.mean(axis=0)
        _, size, axes = np.linalg.svd(distinct - self.mean, full_matrices=False)
        n = max(1, min(_AXES, int((size > 1e-6 * size[0]).sum()))) if size[0] > 0 else 1
        self.axes = axes[:n].T * np.sqrt(max(len(distinct) - 1, 1)) / max(float(size[0]), 1e-12)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.mean) @ self.axes)


def _features(pairs: Pairs, side: str) -> np.ndarray:
    return pairs.cell_features if side == "cells" else pairs.drug_features


def _means(names: np.ndarray, values: np.ndarray, prior: float) -> dict[str, float]:
    kinds, codes = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    return dict(zip(kinds.tolist(), (sums / (counts + prior)).tolist(), strict=True))
