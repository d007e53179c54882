"""The classifiers of :mod:`cellweave_tasks.genesets`: kernels with a group lasso, or attention."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold

from cellweave.errors import ConfigError
from cellweave_tasks.classifiers import LinearProbe
from cellweave_tasks.gene_sets import GeneSets
from cellweave_tasks.group_lasso import GroupLassoFit, Problem, largest_penalty, lasso_path
from cellweave_tasks.set_kernels import SetFeatures
from cellweave_tasks.token_models import token_model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["SetClassifier", "attention_classifier"]

_PATH = np.geomspace(0.7, 0.01, 10)
_FOLDS = 3
_MOST_GROUPS = 5
_STABLE = 0.5
_MOST_CHOSEN = 60


class SetClassifier:
    """A kernel a set, and few sets."""

    def __init__(self, *, sets: GeneSets, kernel: str, seed: int) -> None:
        self.sets, self.kernel, self.seed = sets, kernel, seed

    def fit(
        self, values: np.ndarray | sp.csr_matrix, labels: np.ndarray, groups: np.ndarray | None
    ) -> Self:
        """Choose λ on folds (one group out each, where there are several), then fit on all cells.

        Only the sets that half of the folds chose at that λ stay: what enters by chance of the
        cells is not told as a finding.
        """
        losses, chosen = [], []
        for train, test in self._folds(labels, groups):
            features = SetFeatures(sets=self.sets, kernel=self.kernel, seed=self.seed)
            problem = self._problem(features, values[train], labels[train])
            top = largest_penalty(problem)
            known = np.isin(labels[test], np.unique(labels[train]))
            table, truth = features(values[test][known]), labels[test][known]
            lost, kept = _followed(problem, top, table, truth, np.unique(labels[train]))
            losses.append(lost)
            chosen.append(kept)
        at = _within_one_error(np.array(losses))
        stability = np.mean([c[at] for c in chosen], axis=0)
        stable = np.flatnonzero(stability >= min(_STABLE, stability.max()))
        self.stability = stability[stable]
        self.sets = replace(
            self.sets, names=self.sets.names[stable], members=self.sets.members[stable]
        )
        self.features = SetFeatures(sets=self.sets, kernel=self.kernel, seed=self.seed)
        problem = self._problem(self.features, values, labels)
        self.classes = np.unique(labels)
        *_, self.found = lasso_path(problem, largest_penalty(problem) * _PATH[: at + 1])
        self.parts = self._contributions(problem.table)
        return self

    def probabilities(self, values: np.ndarray | sp.csr_matrix) -> np.ndarray:
        """Return class probabilities."""
        return self.found.probabilities(self.features(values))

    def selected(self) -> pd.DataFrame:
        """Return the chosen sets, strongest first."""
        table = pd.DataFrame(
            {
                "weight": self.found.norms,
                "n_genes": self.sets.sizes,
                "stability": self.stability,
            },
            index=pd.Index(self.sets.names, name="set"),
        )
        for k, name in enumerate(self.classes):
            table[str(name)] = self.parts[:, k]
        table = table[table["weight"] > 0]
        return table.sort_values("weight", ascending=False, kind="stable")

    def _contributions(self, table: np.ndarray) -> np.ndarray:
        """Return how much each set moves the score of each class over the training cells."""
        offsets = self.features.offsets
        out = np.zeros((len(offsets) - 1, len(self.classes)))
        for g in np.flatnonzero(self.found.norms > 0):
            part = slice(offsets[g], offsets[g + 1])
            out[g] = (table[:, part] @ self.found.weights[part]).std(axis=0)
        return out

    def _problem(
        self, features: SetFeatures, values: np.ndarray | sp.csr_matrix, labels: np.ndarray
    ) -> Problem:
        classes, codes = np.unique(labels, return_inverse=True)
        counts = np.bincount(codes)
        table = features.fit(values)
        return Problem(
            table=table,
            labels=np.eye(len(classes), dtype=np.float32)[codes],
            weights=(len(labels) / len(classes) / counts)[codes],
            offsets=features.offsets,
        )

    def _folds(
        self, labels: np.ndarray, groups: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        if groups is not None and 1 < len(set(groups.tolist())) <= _MOST_GROUPS:
            found = LeaveOneGroupOut().split(labels, groups=groups)
            parts = [p for p in found if len(set(labels[p[0]].tolist())) > 1]
            if len(parts) > 1:
                return parts
        n = min(_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
        if n < 2:
            msg = "A label has a single training cell: λ cannot be chosen. Give two or more."
            raise ConfigError(msg)
        kfold = StratifiedKFold(n, shuffle=True, random_state=self.seed)
        return list(kfold.split(labels, labels))


class _AttentionClassifier:
    """A linear probe on the model's cells; which pathways it attends to, by label."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, adata: AnnData, labels: np.ndarray, seed: int) -> Self:
        self.probe = LinearProbe(seed=seed).fit(self._cells(adata), labels)
        self.classes = self.probe.classes
        names, attention = self.model.pathway_attention(adata)
        means = np.stack([attention[labels == c].mean(axis=0) for c in self.classes], axis=1)
        table = pd.DataFrame(
            means - means.mean(axis=1, keepdims=True),
            index=pd.Index(names, name="set"),
            columns=self.classes.astype(str),
        )
        table.insert(0, "weight", attention.mean(axis=0))
        self.table = table.sort_values("weight", ascending=False, kind="stable")
        return self

    def probabilities(self, adata: AnnData) -> np.ndarray:
        return self.probe.probabilities(self._cells(adata))

    def selected(self) -> pd.DataFrame:
        return self.table

    def _cells(self, adata: AnnData) -> np.ndarray:
        return np.asarray(self.model.embed(adata).values)


def attention_classifier(
    model: Any, adata: AnnData, labels: np.ndarray, *, seed: int
) -> _AttentionClassifier:
    """Fit a probe on a model with pathway tokens."""
    loaded = token_model(model)
    if not hasattr(loaded, "pathway_attention"):
        msg = (
            f"{type(loaded).__name__} has no pathway tokens. Train one with the encoder "
            "`nn.pathway`, or use method='fourier'."
        )
        raise ConfigError(msg)
    return _AttentionClassifier(loaded).fit(adata, labels, seed)


def _followed(
    problem: Problem, top: float, table: np.ndarray, truth: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return held-out loss and chosen sets along the path, up to where it no longer gains.

    Small penalties let all sets in: dear to solve, and not what is asked for.
    """
    losses = np.full(len(_PATH), np.inf)
    chosen: list[np.ndarray] = []
    for i, fit in enumerate(lasso_path(problem, top * _PATH)):
        losses[i] = _loss(fit, table, truth, classes)
        chosen.append(fit.norms > 0)
        is_worse = i > 1 and losses[i] > losses[:i].min() and losses[i - 1] > losses[: i - 1].min()
        if is_worse or chosen[-1].sum() > _MOST_CHOSEN:
            break
    return losses, chosen + [chosen[-1]] * (len(_PATH) - len(chosen))


def _loss(fit: GroupLassoFit, table: np.ndarray, truth: np.ndarray, classes: np.ndarray) -> float:
    """Return minus the mean log-probability of the truth, each label weighing the same."""
    likely = fit.probabilities(table)[np.arange(len(truth)), np.searchsorted(classes, truth)]
    lost = -np.log(np.maximum(likely, 1e-12))
    return float(np.mean([lost[truth == c].mean() for c in np.unique(truth)]))


def _within_one_error(losses: np.ndarray) -> int:
    """Return the first (largest) penalty whose loss is within one standard error of the best."""
    mean = losses.mean(axis=0)
    best = int(mean.argmin())
    error = float(losses[:, best].std(ddof=1)) / np.sqrt(len(losses)) if len(losses) > 1 else 0.0
    return int(np.argmax(mean <= mean[best] + error))
