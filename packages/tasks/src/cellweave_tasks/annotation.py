"""Cell-type annotation from any embedding, with types that training never saw flagged.

Fit on labelled cells, predict for others: the label, its probability, and how unlike all training
cells a cell is. A limit on the latter for each type is calibrated on training cells left out, batch
by batch, so that a stated share of known cells is called unknown by mistake, and widened for cells
of another technology (:mod:`cellweave_tasks.novelty`). Baselines stand beside every score: the
commonest type, and logistic regression on principal components of the features themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD

from cellweave.errors import ConfigError, DataError
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.classification import classification_scores, novelty_auroc
from cellweave_tasks.classifiers import Classifier, make_classifier
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import (
    aligned,
    as_dense,
    column_of,
    features_of,
    fingerprints,
    labels_of,
    most_variable,
)
from cellweave_tasks.novelty import Limits
from cellweave_tasks.ontology import Ontology
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import by_fraction, refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["UNKNOWN", "AnnotationTask"]

UNKNOWN = "unknown"
_MOST_COLUMNS = 2000
_BASELINE_COMPONENTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """One classifier with the limits above which a cell is called unknown."""

    classifier: Classifier
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a classifier says about cells."""

    label: np.ndarray
    confidence: np.ndarray
    novelty: np.ndarray
    unknown: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """What was learnt, and by what the training cells are known again."""

    own: _Trained
    baselines: Mapping[str, _Trained]
    reduction: TruncatedSVD | None
    var_names: np.ndarray
    columns: np.ndarray
    cells: np.ndarray
    width: int
    groups: np.ndarray | None


class AnnotationTask:
    """Annotate cells with the types of a labelled reference.

    Parameters
    ----------
    use_rep
        ``obsm`` key of an embedding; ``None`` takes the 2 000 most variable columns of ``X``.
    label_key
        ``obs`` column of types.
    group_key
        ``obs`` column of donors or batches that must not be in training and in the test; with
        several in training, the limits for unknown cells allow for what a new one brings.
    method
        ``"linear"``, ``"knn"`` or ``"prototype"``.
    unknown_rate
        Share of known cells that may be called unknown; 0 flags none.
    new_technology
        Whether the cells to label may all lie further off than those of training, as of another
        technology; the limits then widen by what the median type shows.
    ontology
        OBO file of the Cell Ontology, for the distance of wrong labels (LCAD).
    label_ids
        Label to its ontology id, where labels are not names of the ontology.
    seed
        Of what is random.

    Examples
    --------
    >>> import cellweave
    >>> cells = cellweave.datasets.simulate(n_cells=200, modalities=("rna",), prepared=True)["rna"]
    >>> task = AnnotationTask(use_rep="X_pca").fit(cells[:150])
    >>> task.evaluate(cells[150:]).value("accuracy", method="linear on X_pca") > 0.5
    True
    """

    def __init__(
        self,
        *,
        use_rep: str | None = "X_pca",
        label_key: str = "cell_type",
        group_key: str | None = None,
        method: str = "linear",
        unknown_rate: float = 0.05,
        new_technology: bool = True,
        ontology: str | None = None,
        label_ids: dict[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        if not 0 <= unknown_rate < 1:
            msg = f"unknown_rate is {unknown_rate!r}. Expected a share from 0 to below 1."
            raise ConfigError(msg)
        make_classifier(method, seed=seed)
        self.use_rep, self.label_key, self.group_key = use_rep, label_key, group_key
        self.method, self.unknown_rate, self.seed = method, unknown_rate, seed
        self.new_technology = new_technology
        self.ontology, self.label_ids = ontology, dict(label_ids or {})
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'X'}"

    def fit(self, adata: AnnData) -> Self:
        """Learn from labelled cells and return ``self``."""
        labels = labels_of(adata, self.label_key)
        groups = column_of(adata, self.group_key) if self.group_key else None
        values = features_of(adata, None)
        columns = most_variable(values, _MOST_COLUMNS)
        raw = values[:, columns] if self.use_rep is None else features_of(adata, self.use_rep)
        features = as_dense(raw)
        reduction = self._reduction(values)
        baselines = {"majority": self._train("majority", features, labels, groups)}
        if reduction is not None:
            reduced = reduction.transform(values)
            baselines["linear on PCA of X"] = self._train("linear", reduced, labels, groups)
        self._fitted = _Fitted(
            own=self._train(self.method, features, labels, groups),
            baselines=baselines,
            reduction=reduction,
            var_names=np.asarray(adata.var_names, dtype=str),
            columns=columns,
            cells=fingerprints(features),
            width=features.shape[1],
            groups=groups,
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict for every cell: label (or ``unknown``), probability, class probabilities."""
        fitted = need_fit(self._fitted, "AnnotationTask")
        features = self._checked(adata, fitted)
        said = self._said(fitted.own, features)
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=np.where(said.unknown, UNKNOWN, said.label),
            confidence=said.confidence.astype(np.float32),
            columns=fitted.own.classifier.classes.astype(str),
            probabilities=said.probabilities.astype(np.float32),
            provenance=self._provenance(),
        )

    @property
    def classes(self) -> np.ndarray:
        """Give the types of training."""
        return need_fit(self._fitted, "AnnotationTask").own.classifier.classes.astype(str)

    def novelty(self, adata: AnnData) -> np.ndarray:
        """Return how unlike all training cells each cell is; more is newer."""
        fitted = need_fit(self._fitted, "AnnotationTask")
        return self._said(fitted.own, self._checked(adata, fitted)).novelty

    def evaluate(self, adata: AnnData) -> Scores:
        """Score on labelled cells beside the baselines.

        Types that training never saw count for ``novel_auroc`` and ``unknown_recall`` alone.
        """
        fitted = need_fit(self._fitted, "AnnotationTask")
        features = self._checked(adata, fitted)
        truth = labels_of(adata, self.label_key)
        refuse_leaks(
            train_cells=fitted.cells,
            test_cells=fingerprints(features),
            train_groups=fitted.groups,
            test_groups=column_of(adata, self.group_key) if self.group_key else None,
            group_key=self.group_key or "",
        )
        ontology = Ontology.from_obo(Path(self.ontology)) if self.ontology else None
        seen = {self.name: (fitted.own, features)}
        for name, trained in fitted.baselines.items():
            if name != "majority" and fitted.reduction is not None:
                reduced = fitted.reduction.transform(aligned(adata, fitted.var_names))
                seen[name] = (trained, reduced)
            else:
                seen[name] = (trained, features)
        items: list[Score] = []
        for name, (trained, points) in seen.items():
            items += self._score(trained, points, truth, name, ontology)
        return Scores(
            items=tuple(items), provenance=self._provenance(), summary=self._summary(seen, truth)
        )

    def _summary(
        self, seen: Mapping[str, tuple[_Trained, np.ndarray]], truth: np.ndarray
    ) -> dict[str, Any]:
        """Say whether the best baseline is beaten, in accuracy over cells of known types."""
        known = np.isin(truth, next(iter(seen.values()))[0].classifier.classes)
        if not known.any():
            return {"headline": "No type of the test was in training: only novelty is scored."}
        right = {
            name: (self._said(trained, points).label == truth)[known].astype(float)
            for name, (trained, points) in seen.items()
        }
        best = max((n for n in right if n != self.name), key=lambda n: float(right[n].mean()))
        gap = paired_difference(right[self.name], right[best], seed=self.seed)
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", "accuracy")
        return {"headline": text, "best_baseline": best, **gap.to_dict()}

    def _reduction(self, values: np.ndarray | sp.csr_matrix) -> TruncatedSVD | None:
        size = min(_BASELINE_COMPONENTS, min(values.shape) - 1)
        if size < 2:
            return None
        return TruncatedSVD(n_components=size, random_state=self.seed).fit(values)

    def _train(
        self, method: str, features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None
    ) -> _Trained:
        classifier = make_classifier(method, seed=self.seed).fit(features, labels)
        limits = Limits.none(len(classifier.classes))
        if self.unknown_rate > 0 and len(labels) >= 20:
            novelty, said = self._left_out(method, features, labels, groups)
            codes = np.searchsorted(classifier.classes, said)
            n_types = len(classifier.classes)
            limits = Limits.calibrated(novelty, codes, n_types, self.unknown_rate)
        return _Trained(classifier=classifier, limits=limits)

    def _left_out(
        self, method: str, features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return novelty and label given of cells of known types that were left out of a fit.

        Novelty among training cells themselves is too small; and cells of a new batch or donor look
        newer than cells of a known one, so whole groups are left out where there are several.
        """
        if groups is not None and len(set(groups.tolist())) > 1:
            sides = [groups == group for group in sorted(set(groups.tolist()))]
        else:
            test = by_fraction(len(labels), test_fraction=0.25, seed=self.seed).test
            sides = [np.isin(np.arange(len(labels)), test)]
        novelty, said = [np.zeros(0)], [labels[:0]]
        for out in sides:
            known = out & np.isin(labels, labels[~out])
            if known.any() and len(set(labels[~out].tolist())) > 1:
                part = make_classifier(method, seed=self.seed).fit(features[~out], labels[~out])
                novelty.append(part.novelty(features[known]))
                said.append(part.classes[part.probabilities(features[known]).argmax(axis=1)])
        return np.concatenate(novelty), np.concatenate(said)

    def _said(self, trained: _Trained, features: np.ndarray) -> _Said:
        probabilities = trained.classifier.probabilities(features)
        best = probabilities.argmax(axis=1)
        novelty = trained.classifier.novelty(features)
        limit = trained.limits.of(novelty, best, widened=self.new_technology)
        return _Said(
            label=trained.classifier.classes[best].astype(str),
            confidence=probabilities[np.arange(len(best)), best],
            novelty=novelty,
            unknown=novelty > limit,
            probabilities=probabilities,
        )

    def _score(
        self,
        trained: _Trained,
        features: np.ndarray,
        truth: np.ndarray,
        name: str,
        ontology: Ontology | None,
    ) -> list[Score]:
        said = self._said(trained, features)
        is_novel = ~np.isin(truth, trained.classifier.classes)
        known = self._scores_of_known(said, truth, ~is_novel, name, ontology)
        return [*known, *self._scores_of_novel(said, is_novel, name)]

    def _scores_of_known(
        self,
        said: _Said,
        truth: np.ndarray,
        known: np.ndarray,
        name: str,
        ontology: Ontology | None,
    ) -> list[Score]:
        if not known.any():
            return []
        items = classification_scores(
            truth[known],
            said.label[known],
            said.confidence[known],
            method=name,
            seed=self.seed,
            ontology=ontology,
            ids=self.label_ids,
        )
        wrongly = Score(
            metric="false_unknown",
            value=float(said.unknown[known].mean()),
            method=name,
            higher_is_better=False,
            best=0.0,
            seed=self.seed,
            note="share of cells of known types that are called unknown",
        )
        return [*items, wrongly]

    def _scores_of_novel(self, said: _Said, is_novel: np.ndarray, name: str) -> list[Score]:
        auroc = novelty_auroc(is_novel, said.novelty)
        note = "" if auroc is not None else "no type of the test is unknown to training"
        items = [
            Score(
                metric="novel_auroc",
                value=auroc,
                method=name,
                best=1.0,
                chance=0.5,
                seed=self.seed,
                note=note,
            )
        ]
        if is_novel.any():
            caught = float(said.unknown[is_novel].mean())
            items.append(
                Score(metric="unknown_recall", value=caught, method=name, best=1.0, seed=self.seed)
            )
        return items

    def _checked(self, adata: AnnData, fitted: _Fitted) -> np.ndarray:
        if self.use_rep is None:
            return as_dense(aligned(adata, fitted.var_names)[:, fitted.columns])
        features = as_dense(features_of(adata, self.use_rep))
        if features.shape[1] != fitted.width:
            msg = (
                f"`obsm[{self.use_rep!r}]` has {features.shape[1]} columns, training had "
                f"{fitted.width}. Embed both with the same model or basis."
            )
            raise DataError(msg)
        return features

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.annotation", self._parameters, self.seed)
