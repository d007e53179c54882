"""Classify genes (dosage-sensitive, range of a factor …) from their embeddings, split by gene.

Gene embeddings stand in ``varm[use_rep]``; labels in ``var[label_key]``, empty where unknown. What
any method must beat is what expression alone tells of a gene: how much, how often, how variably.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from cellweave.errors import DataError, closest, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.classification import classification_scores
from cellweave_tasks.classifiers import Classifier, make_classifier
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import features_of
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import Split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

__all__ = ["GeneTask", "gene_folds"]

_EXPRESSION = "linear on expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The classifiers, and the names of the genes they learnt from."""

    own: Classifier
    expression: Classifier
    majority: Classifier
    genes: frozenset[str]
    width: int


class GeneTask:
    """Classify genes.

    Parameters
    ----------
    use_rep
        ``varm`` key of gene embeddings; ``None`` takes what expression tells of a gene.
    label_key
        ``var`` column of classes; genes without one are left out of training and scores.
    method
        ``"linear"``, ``"knn"`` or ``"prototype"``.
    seed
        Of what is random.

    Examples
    --------
    >>> task = GeneTask(use_rep="PCs", label_key="dosage")
    >>> task.name
    'linear on PCs'
    """

    def __init__(
        self,
        *,
        use_rep: str | None = "PCs",
        label_key: str = "label",
        method: str = "linear",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        make_classifier(method, seed=seed)
        self.use_rep, self.label_key, self.method, self.seed = use_rep, label_key, method, seed
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'expression'}"

    def fit(self, adata: AnnData) -> Self:
        """Learn from the labelled genes of ``adata``."""
        labels = _labels(adata, self.label_key)
        known = np.flatnonzero(labels != "")
        if len(set(labels[known].tolist())) < 2:
            msg = (
                f"`adata.var[{self.label_key!r}]` labels {len(known)} of {len(labels)} genes and "
                "holds fewer than two kinds. Give two kinds or more."
            )
            raise DataError(msg)
        features, expression = self._features(adata)[known], _statistics(adata)[known]
        self._fitted = _Fitted(
            own=make_classifier(self.method, seed=self.seed).fit(features, labels[known]),
            expression=make_classifier("linear", seed=self.seed).fit(expression, labels[known]),
            majority=make_classifier("majority").fit(features, labels[known]),
            genes=frozenset(np.asarray(adata.var_names, dtype=str)[known].tolist()),
            width=features.shape[1],
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict for every gene of ``adata``, in its order."""
        fitted = need_fit(self._fitted, "GeneTask")
        probabilities = fitted.own.probabilities(self._checked(adata, fitted))
        best = probabilities.argmax(axis=1)
        return Prediction(
            names=np.asarray(adata.var_names, dtype=str),
            values=fitted.own.classes[best].astype(str),
            confidence=probabilities.max(axis=1).astype(np.float32),
            columns=fitted.own.classes.astype(str),
            probabilities=probabilities.astype(np.float32),
            provenance=self._provenance(),
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Score on labelled genes that were not in training, beside the baselines."""
        fitted = need_fit(self._fitted, "GeneTask")
        labels = _labels(adata, self.label_key)
        known = np.flatnonzero((labels != "") & np.isin(labels, fitted.own.classes))
        names = np.asarray(adata.var_names, dtype=str)[known]
        both = sorted(set(names.tolist()) & fitted.genes)
        if both:
            msg = (
                f"{len(both)} of {len(known)} genes to be scored were in training, e.g. "
                f"{both[0]!r}. Split by gene, e.g. with `cellweave_tasks.gene_folds`."
            )
            raise DataError(msg)
        if not len(known):
            msg = f"No gene has a label of training in `adata.var[{self.label_key!r}]`."
            raise DataError(msg)
        own, expression = self._checked(adata, fitted)[known], _statistics(adata)[known]
        found = {
            self.name: fitted.own.probabilities(own),
            _EXPRESSION: fitted.expression.probabilities(expression),
            "majority": fitted.majority.probabilities(own),
        }
        truth, classes = labels[known], fitted.own.classes
        items: list[Score] = []
        for name, table in found.items():
            items += self._items(name, table, truth, classes)
        right = {n: (classes[p.argmax(axis=1)] == truth).astype(float) for n, p in found.items()}
        best = max((_EXPRESSION, "majority"), key=lambda n: float(right[n].mean()))
        gap = paired_difference(right[self.name], right[best], seed=self.seed)
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", "accuracy")
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, "best_baseline": best, **gap.to_dict()},
        )

    def _items(
        self, name: str, table: np.ndarray, truth: np.ndarray, classes: np.ndarray
    ) -> list[Score]:
        said = classes[table.argmax(axis=1)]
        items = classification_scores(truth, said, table.max(axis=1), method=name, seed=self.seed)
        present = [i for i, c in enumerate(classes) if 0 < (truth == c).sum() < len(truth)]
        for metric, score in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
            values = [float(score(truth == classes[i], table[:, i])) for i in present]
            shares = [float((truth == classes[i]).mean()) for i in present]
            chance = 0.5 if metric == "auroc" else (float(np.mean(shares)) if shares else None)
            items.append(
                Score(
                    metric=metric,
                    value=float(np.mean(values)) if values else None,
                    method=name,
                    best=1.0,
                    chance=chance,
                    seed=self.seed,
                    note="mean over classes" if values else "one class only in the test",
                )
            )
        return items

    def _features(self, adata: AnnData) -> np.ndarray:
        if self.use_rep is None:
            return _statistics(adata)
        if self.use_rep not in adata.varm:
            msg = (
                f"`adata.varm` has no {self.use_rep!r}.{closest(self.use_rep, adata.varm)} It has: "
                f"{one_of(adata.varm)}. Put gene embeddings there."
            )
            raise DataError(msg)
        values = np.asarray(adata.varm[self.use_rep], dtype=np.float64)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            msg = f"`adata.varm[{self.use_rep!r}]` holds {bad} values that are NaN or infinite."
            raise DataError(msg)
        return values

    def _checked(self, adata: AnnData, fitted: _Fitted) -> np.ndarray:
        features = self._features(adata)
        if features.shape[1] != fitted.width:
            msg = (
                f"`varm[{self.use_rep!r}]` has {features.shape[1]} columns, training had "
                f"{fitted.width}. Embed all genes with the same model."
            )
            raise DataError(msg)
        return features

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.genes", self._parameters, self.seed)


def gene_folds(
    adata: AnnData, label_key: str, *, n_folds: int = 5, seed: int = 0
) -> Iterator[Split]:
    """Yield folds of the labelled genes (columns), classes in equal shares: ``adata[:, train]``."""
    labels = _labels(adata, label_key)
    known = np.flatnonzero(labels != "")
    smallest = int(np.unique(labels[known], return_counts=True)[1].min()) if len(known) else 0
    if not 2 <= n_folds <= smallest:
        msg = (
            f"n_folds is {n_folds!r}, the rarest class has {smallest} genes. Expected 2 folds or "
            "more, and no more than that."
        )
        raise DataError(msg)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for i, (train, test) in enumerate(folds.split(known, labels[known]), start=1):
        yield Split(name=f"genes {i}/{n_folds}", train=known[train], test=known[test])


def _labels(adata: AnnData, key: str) -> np.ndarray:
    if key not in adata.var:
        columns = list(map(str, adata.var))
        msg = f"`adata.var` has no {key!r}.{closest(key, columns)} It has: {one_of(columns)}."
        raise DataError(msg)
    column: pd.Series[Any] = adata.var[key]
    return np.where(column.isna(), "", column.astype(str)).astype(str)


def _statistics(adata: AnnData) -> np.ndarray:
    """Return mean, share of cells with the gene, and spread, each standardised within the data."""
    values = features_of(adata, None)
    squares = values.multiply(values) if sp.issparse(values) else np.square(values)
    mean = np.asarray(values.mean(axis=0)).ravel().astype(np.float64)
    spread = np.sqrt(np.maximum(np.asarray(squares.mean(axis=0)).ravel() - mean**2, 0))
    share = np.asarray((values > 0).mean(axis=0)).ravel()
    return np.stack([np.log1p(np.maximum(mean, 0)), share, np.log1p(spread)], axis=1)
