"""Classify cells by gene sets, and say which sets decided.

Each set gets a kernel of its own, and a group lasso keeps few sets (scMKL's idea, Kupp et al.
2025): λ is the largest whose held-out loss is within a standard error of the best, and only sets
that half of the folds chose stay. Or a model that reads pathways attends to them (``"attention"``).
Baselines: the commonest label, logistic regression on principal axes, and the same method on random
sets of the same sizes: where those do as well, the sets chosen mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD

from cellweave.errors import ConfigError, closest, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.classification import classification_scores
from cellweave_tasks.classifiers import Classifier, make_classifier
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import aligned, column_of, features_of, fingerprints, labels_of
from cellweave_tasks.gene_sets import GeneSets, gene_sets_on
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.set_classifier import SetClassifier, attention_classifier
from cellweave_tasks.splits import refuse_leaks
from cellweave_tasks.token_models import model_name

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GeneSetTask"]

_METHODS = ("fourier", "linear", "attention")
_RANDOM, _PCA = "random sets of the same sizes", "linear on PCA of X"
_COMPONENTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The classifiers by name, what each reads, and how training is known again."""

    own: Any
    random: SetClassifier | None
    pca: Classifier
    majority: Classifier
    reduction: TruncatedSVD
    names: np.ndarray
    cells: np.ndarray
    groups: np.ndarray | None


class GeneSetTask:
    """Classify cells by few gene sets.

    Parameters
    ----------
    gene_sets
        GMT file, or name to genes; not needed for ``"attention"``.
    label_key
        ``obs`` column of labels.
    group_key
        ``obs`` column of donors or batches: never in training and in the test; folds go by it.
    method
        Kernel of each set, ``"fourier"`` or ``"linear"``; or ``"attention"`` of ``model``.
    model
        Folder of a model with pathway tokens, or a loaded one.
    min_genes, max_genes, max_sets
        Sets with fewer or more measured genes are left out; the largest are kept.
    max_cells
        At most so many training cells, labels in equal shares.
    seed
        Of what is random.

    Examples
    --------
    >>> task = GeneSetTask(gene_sets={"one": ["a", "b"]}, min_genes=2)
    >>> task.name
    'fourier kernels of gene sets'
    """

    def __init__(
        self,
        *,
        gene_sets: str | dict[str, list[str]] = "",
        label_key: str = "cell_type",
        group_key: str | None = None,
        method: str = "fourier",
        model: Any = "",
        min_genes: int = 5,
        max_genes: int = 500,
        max_sets: int = 300,
        max_cells: int = 3000,
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals()) | {"model": model_name(model)}
        if method not in _METHODS:
            msg = f"Unknown method {method!r}.{closest(method, _METHODS)} Available: "
            raise ConfigError(msg + f"{one_of(_METHODS)}.")
        if method == "attention" and model in ("", None):
            msg = "method='attention' needs a model with pathway tokens. Name it by `model`."
            raise ConfigError(msg)
        if method != "attention" and not gene_sets:
            msg = f"method={method!r} needs gene sets. Name a GMT file by `gene_sets`."
            raise ConfigError(msg)
        self.gene_sets, self.label_key, self.group_key = gene_sets, label_key, group_key
        self.method, self.model = method, model
        self.min_genes, self.max_genes, self.max_sets = min_genes, max_genes, max_sets
        self.max_cells, self.seed = max_cells, seed
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method, as in tables."""
        if self.method == "attention":
            return f"attention of {model_name(self.model)}"
        return f"{self.method} kernels of gene sets"

    def needs_labels(self, adata: AnnData) -> tuple[str, ...]:
        """Name the columns without which a cell cannot be used."""
        return (self.label_key,)

    def fit(self, adata: AnnData) -> Self:
        """Learn from labelled cells."""
        labels = labels_of(adata, self.label_key)
        groups = column_of(adata, self.group_key) if self.group_key else None
        values = features_of(adata, None)
        names = np.asarray(adata.var_names, dtype=str)
        rows = _drawn(labels, self.max_cells, self.seed)
        own: Any
        random = None
        if self.method == "attention":
            own = attention_classifier(self.model, adata[rows], labels[rows], seed=self.seed)
        else:
            sets = gene_sets_on(
                self.gene_sets,
                names,
                min_genes=self.min_genes,
                max_genes=self.max_genes,
                max_sets=self.max_sets,
            )
            folds = None if groups is None else groups[rows]
            own = SetClassifier(sets=sets, kernel=self.method, seed=self.seed)
            own.fit(values[rows], labels[rows], folds)
            random = SetClassifier(
                sets=_shuffled(sets, self.seed), kernel=self.method, seed=self.seed
            )
            random.fit(values[rows], labels[rows], folds)
        size = max(1, min(_COMPONENTS, min(values.shape) - 1))
        reduction = TruncatedSVD(n_components=size, random_state=self.seed).fit(values)
        reduced = reduction.transform(values)
        self._fitted = _Fitted(
            own=own,
            random=random,
            pca=make_classifier("linear", seed=self.seed).fit(reduced, labels),
            majority=make_classifier("majority").fit(reduced, labels),
            reduction=reduction,
            names=names,
            cells=fingerprints(values),
            groups=groups,
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict for every cell: label, probability, probabilities of all labels."""
        fitted = need_fit(self._fitted, "GeneSetTask")
        table = self._probabilities(adata, fitted)[self.name]
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=fitted.own.classes[table.argmax(axis=1)].astype(str),
            confidence=table.max(axis=1).astype(np.float32),
            columns=fitted.own.classes.astype(str),
            probabilities=table.astype(np.float32),
            provenance=self._provenance(),
        )

    def selected(self) -> pd.DataFrame:
        """Return the sets that decide, strongest first.

        Columns: ``weight``; for kernels ``n_genes`` and ``stability`` (share of folds that chose
        it); and one column a label, how much the set tells of it.
        """
        return need_fit(self._fitted, "GeneSetTask").own.selected()

    def evaluate(self, adata: AnnData) -> Scores:
        """Score on labelled cells beside the baselines."""
        fitted = need_fit(self._fitted, "GeneSetTask")
        truth = labels_of(adata, self.label_key, kinds=1)
        refuse_leaks(
            train_cells=fitted.cells,
            test_cells=fingerprints(aligned(adata, fitted.names)),
            train_groups=fitted.groups,
            test_groups=column_of(adata, self.group_key) if self.group_key else None,
            group_key=self.group_key or "",
        )
        found = self._probabilities(adata, fitted)
        classes = fitted.own.classes
        items: list[Score] = []
        right = {}
        for name, table in found.items():
            said = classes[table.argmax(axis=1)].astype(str)
            right[name] = (said == truth).astype(float)
            items += classification_scores(
                truth, said, table.max(axis=1), method=name, seed=self.seed
            )
        chosen = {self.name: fitted.own, _RANDOM: fitted.random}
        items += [self._n_selected(n, chosen.get(n)) for n in found]
        best = max((n for n in right if n != self.name), key=lambda n: float(right[n].mean()))
        gap = paired_difference(right[self.name], right[best], seed=self.seed)
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", "accuracy")
        top = self.selected().index[:10].tolist()
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, "best_baseline": best, "selected": top, **gap.to_dict()},
        )

    def _n_selected(self, name: str, classifier: Any) -> Score:
        value = None if classifier is None else float(len(classifier.selected()))
        return Score(
            metric="n_sets",
            value=value,
            method=name,
            higher_is_better=None,
            seed=self.seed,
            note="" if value is not None else "uses no sets",
        )

    def _probabilities(self, adata: AnnData, fitted: _Fitted) -> Mapping[str, np.ndarray]:
        values = aligned(adata, fitted.names)
        reduced = fitted.reduction.transform(values)
        own = fitted.own.probabilities(adata if self.method == "attention" else values)
        found = {self.name: own}
        if fitted.random is not None:
            found[_RANDOM] = fitted.random.probabilities(values)
        found[_PCA] = fitted.pca.probabilities(reduced)
        found["majority"] = fitted.majority.probabilities(reduced)
        return found

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.genesets", self._parameters, self.seed)


def _drawn(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return rows, labels in their shares, at most so many."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    kinds, codes = np.unique(labels, return_inverse=True)
    parts = []
    for code in range(len(kinds)):
        rows = rng.permutation(np.flatnonzero(codes == code))
        parts.append(rows[: max(3, round(most * len(rows) / len(labels)))])
    return np.sort(np.concatenate(parts))


def _shuffled(sets: GeneSets, seed: int) -> GeneSets:
    """Give every gene of the sets the name of another: sizes and overlaps stay."""
    used = np.unique(sets.members.indices)
    turned = np.arange(len(sets.genes))
    turned[used] = np.random.default_rng(seed).permutation(used)
    members = sp.csr_matrix(
        (sets.members.data, turned[sets.members.indices], sets.members.indptr),
        shape=sets.members.shape,
    )
    return replace(sets, members=members)
