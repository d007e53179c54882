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

from cellweave.errors import ConfigError
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.annotation_scoring import Said, Trained, said_of, scores_of
from cellweave_tasks.classifiers import Blend, make_classifier
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import (
    aligned,
    as_dense,
    column_of,
    embedded,
    features_of,
    fingerprints,
    labels_of,
    most_variable,
)
from cellweave_tasks.novelty import Limits
from cellweave_tasks.ontology import Ontology
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["UNKNOWN", "AnnotationTask"]

UNKNOWN = "unknown"
_MOST_COLUMNS = 2000
_BASELINE_COMPONENTS = 50
_AXES = 200
_MANY_CELLS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """What was learnt, and by what the training cells are known again."""

    own: Trained
    baselines: Mapping[str, Trained]
    reduction: TruncatedSVD | None
    axes: TruncatedSVD | None
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
        ``"linear"``, ``"knn"``, ``"prototype"``, or ``"blend"``: the mean of linear probes on the
        embedding and on 200 principal axes of ``X``, which tells near-identical types apart.
        ``"auto"`` is ``"blend"`` on ``X_pca`` and ``X``, and ``"linear"`` on any other embedding,
        which is then judged alone.
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
    >>> task.evaluate(cells[150:]).value("accuracy", method="blend on X_pca") > 0.5
    True
    """

    def __init__(
        self,
        *,
        use_rep: str | None = "X_pca",
        label_key: str = "cell_type",
        group_key: str | None = None,
        method: str = "auto",
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
        if method == "auto":
            method = "blend" if use_rep in (None, "X_pca") else "linear"
        if method != "blend":
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

    def needs_labels(self, adata: AnnData) -> tuple[str, ...]:
        """Name the columns without which a cell cannot be used."""
        return (self.label_key,)

    def fit(self, adata: AnnData) -> Self:
        """Learn from labelled cells and return ``self``."""
        labels = labels_of(adata, self.label_key)
        groups = column_of(adata, self.group_key) if self.group_key else None
        values = features_of(adata, None)
        columns = most_variable(values, _MOST_COLUMNS)
        raw = values[:, columns] if self.use_rep is None else features_of(adata, self.use_rep)
        features = as_dense(raw)
        reduction = self._reduction(values, _BASELINE_COMPONENTS)
        axes = self._reduction(values[:, columns], _AXES) if self.method == "blend" else None
        own = features if axes is None else _beside(features, axes.transform(values[:, columns]))
        baselines = {"majority": self._train("majority", features, labels, groups)}
        if reduction is not None:
            reduced = reduction.transform(values)
            baselines["linear on PCA of X"] = self._train("linear", reduced, labels, groups)
        self._fitted = _Fitted(
            own=self._train(self.method, own, labels, groups, width=features.shape[1]),
            baselines=baselines,
            reduction=reduction,
            axes=axes,
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
        said = self._said(fitted.own, self._seen(adata, fitted))
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
        return self._said(fitted.own, self._seen(adata, fitted)).novelty

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
        seen = {self.name: (fitted.own, self._seen(adata, fitted, features))}
        for name, trained in fitted.baselines.items():
            if name != "majority" and fitted.reduction is not None:
                reduced = fitted.reduction.transform(aligned(adata, fitted.var_names))
                seen[name] = (trained, reduced)
            else:
                seen[name] = (trained, features)
        items: list[Score] = []
        for name, (trained, points) in seen.items():
            items += scores_of(
                self._said(trained, points),
                truth,
                trained.classifier.classes,
                method=name,
                seed=self.seed,
                ontology=ontology,
                ids=self.label_ids,
            )
        return Scores(
            items=tuple(items), provenance=self._provenance(), summary=self._summary(seen, truth)
        )

    def _summary(
        self, seen: Mapping[str, tuple[Trained, np.ndarray]], truth: np.ndarray
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

    def _reduction(
        self, values: np.ndarray | sp.csr_matrix, n_components: int
    ) -> TruncatedSVD | None:
        size = min(n_components, min(values.shape) - 1)
        if size < 2:
            return None
        return TruncatedSVD(n_components=size, random_state=self.seed).fit(values)

    def _train(
        self,
        method: str,
        features: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray | None,
        *,
        width: int | None = None,
    ) -> Trained:
        if method == "blend" and width == features.shape[1]:
            method = "linear"  # too few cells or columns for axes
        made = (
            Blend(width=width, seed=self.seed)
            if method == "blend" and width is not None
            else make_classifier(method, seed=self.seed)
        )
        classifier = made.fit(features, labels)
        limits = Limits.none(len(classifier.classes))
        if self.unknown_rate > 0 and len(labels) >= 20:
            # What is new is told by the first view, so that alone is fitted again.
            usual = "linear" if method == "blend" else method
            novelty, said = self._left_out(usual, features[:, :width], labels, groups)
            codes = np.searchsorted(classifier.classes, said)
            n_types = len(classifier.classes)
            limits = Limits.calibrated(novelty, codes, n_types, self.unknown_rate)
        return Trained(classifier=classifier, limits=limits)

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
            sides = _quarters(len(labels), self.seed)
        novelty, said = [np.zeros(0)], [labels[:0]]
        for out in sides:
            known = out & np.isin(labels, labels[~out])
            if known.any() and len(set(labels[~out].tolist())) > 1:
                part = make_classifier(method, seed=self.seed).fit(features[~out], labels[~out])
                novelty.append(part.novelty(features[known]))
                said.append(part.classes[part.probabilities(features[known]).argmax(axis=1)])
        return np.concatenate(novelty), np.concatenate(said)

    def _said(self, trained: Trained, features: np.ndarray) -> Said:
        return said_of(trained, features, widened=self.new_technology)

    def _checked(self, adata: AnnData, fitted: _Fitted) -> np.ndarray:
        if self.use_rep is None:
            return as_dense(aligned(adata, fitted.var_names)[:, fitted.columns])
        return embedded(adata, self.use_rep, fitted.width)

    def _seen(
        self, adata: AnnData, fitted: _Fitted, features: np.ndarray | None = None
    ) -> np.ndarray:
        """Return what the classifier sees: the features, and beside them axes for a blend."""
        features = self._checked(adata, fitted) if features is None else features
        if fitted.axes is None:
            return features
        values = aligned(adata, fitted.var_names)[:, fitted.columns]
        return _beside(features, fitted.axes.transform(values))

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.annotation", self._parameters, self.seed)


def _quarters(n: int, seed: int) -> list[np.ndarray]:
    """Return masks of each quarter of the cells in turn; of many cells one quarter says enough."""
    quarter = np.random.default_rng(seed).permutation(n) % 4
    return [quarter == q for q in range(4 if n <= _MANY_CELLS else 1)]


def _beside(features: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return np.hstack([features, axes]).astype(np.float32)
