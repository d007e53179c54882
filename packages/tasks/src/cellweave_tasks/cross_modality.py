"""Predict one modality from another: proteins from RNA, accessibility from RNA, genes from a panel.

The target stands in ``obsm[target_key]`` of the training cells. Scores are correlations over cells,
one a column, beside the mean, ridge regression on principal axes of ``X``, and nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD

from cellweave.errors import DataError, closest, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import (
    aligned,
    as_dense,
    column_of,
    embedded,
    features_of,
    fingerprints,
    most_variable,
)
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.regressors import Regressor, column_correlations, make_regressor
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["CrossModalityTask", "with_target"]

_COMPONENTS = 50
_MOST_COLUMNS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The regressors, what they see, and by what training cells are known again."""

    own: Regressor
    baselines: Mapping[str, Regressor]
    reduction: TruncatedSVD
    var_names: np.ndarray
    chosen: np.ndarray
    columns: np.ndarray
    width: int
    cells: np.ndarray
    groups: np.ndarray | None


class CrossModalityTask:
    """Predict the values of another modality for each cell.

    Parameters
    ----------
    use_rep
        ``obsm`` key of an embedding; ``None`` takes the 2 000 most variable columns of ``X``.
    target_key
        ``obsm`` key of the values to learn: an array, or a table with named columns.
    group_key
        ``obs`` column of donors that must not be in training and in the test.
    method
        ``"blend"`` (kernel and knn), ``"kernel"``, ``"ridge"``, ``"knn"`` or ``"mean"``.
    seed
        Of what is random.

    Examples
    --------
    >>> import cellweave
    >>> from cellweave_tasks import with_target
    >>> mdata = cellweave.datasets.simulate(n_cells=200, modalities=("rna", "prot"), prepared=True)
    >>> cells = with_target(mdata["rna"], mdata["prot"])
    >>> task = CrossModalityTask().fit(cells[:150])
    >>> task.evaluate(cells[150:]).value("pearson", method=task.name) > 0.2
    True
    """

    def __init__(
        self,
        *,
        use_rep: str | None = "X_pca",
        target_key: str = "target",
        group_key: str | None = None,
        method: str = "blend",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        make_regressor(method, seed=seed)
        self.use_rep, self.target_key, self.group_key = use_rep, target_key, group_key
        self.method, self.seed = method, seed
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'X'}"

    def fit(self, adata: AnnData) -> Self:
        """Learn from cells with both modalities."""
        targets, columns = _target(adata, self.target_key)
        values = features_of(adata, None)
        chosen = most_variable(values, _MOST_COLUMNS)
        seen = values[:, chosen] if self.use_rep is None else features_of(adata, self.use_rep)
        features = as_dense(seen).astype(np.float64)
        size = min(_COMPONENTS, min(values.shape) - 1)
        reduction = TruncatedSVD(n_components=size, random_state=self.seed).fit(values)
        axes = reduction.transform(values).astype(np.float64)
        baselines = {
            "mean": make_regressor("mean").fit(axes, targets),
            "ridge on PCA of X": make_regressor("ridge", seed=self.seed).fit(axes, targets),
            "knn on PCA of X": make_regressor("knn").fit(axes, targets),
        }
        self._fitted = _Fitted(
            own=make_regressor(self.method, seed=self.seed).fit(features, targets),
            baselines=baselines,
            reduction=reduction,
            var_names=np.asarray(adata.var_names, dtype=str),
            chosen=chosen,
            columns=columns,
            width=features.shape[1],
            cells=fingerprints(seen),
            groups=column_of(adata, self.group_key) if self.group_key else None,
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict all columns of the target for every cell."""
        fitted = need_fit(self._fitted, "CrossModalityTask")
        values = fitted.own.predict(self._features(adata, fitted).astype(np.float64))
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=values.astype(np.float32),
            columns=fitted.columns,
            provenance=self._provenance(),
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Score on cells with both modalities: per column, and the means."""
        fitted = need_fit(self._fitted, "CrossModalityTask")
        truth, columns = _target(adata, self.target_key)
        if not np.array_equal(columns, fitted.columns):
            msg = (
                f"`obsm[{self.target_key!r}]` has {len(columns)} columns, training had "
                f"{len(fitted.columns)}, or they are in another order. Give the same columns."
            )
            raise DataError(msg)
        features = self._features(adata, fitted)
        refuse_leaks(
            train_cells=fitted.cells,
            test_cells=fingerprints(features),
            train_groups=fitted.groups,
            test_groups=column_of(adata, self.group_key) if self.group_key else None,
            group_key=self.group_key or "",
        )
        axes = fitted.reduction.transform(aligned(adata, fitted.var_names)).astype(np.float64)
        found = {self.name: fitted.own.predict(features.astype(np.float64))}
        found |= {name: model.predict(axes) for name, model in fitted.baselines.items()}
        items: list[Score] = []
        for name, values in found.items():
            items += self._items(name, values, truth, columns)
        return Scores(
            items=tuple(items), provenance=self._provenance(), summary=self._summary(found, truth)
        )

    def _items(
        self, name: str, values: np.ndarray, truth: np.ndarray, columns: np.ndarray
    ) -> list[Score]:
        correlations = column_correlations(values, truth)
        spread = np.maximum(truth.var(axis=0), 1e-12)
        errors = ((values - truth) ** 2).mean(axis=0) / spread

        def score(metric: str, value: float, group: str = "") -> Score:
            is_error = metric == "relative_mse"
            return Score(
                metric=metric,
                value=value,
                method=name,
                group=group,
                higher_is_better=not is_error,
                best=0.0 if is_error else 1.0,
                chance=1.0 if is_error else 0.0,
                seed=self.seed,
                note="mean squared error over the variance of the column" if is_error else "",
            )

        whole = [
            score("pearson", float(correlations.mean())),
            score("relative_mse", float(errors.mean())),
        ]
        each = [
            score("pearson", float(c), str(n)) for c, n in zip(correlations, columns, strict=True)
        ]
        return whole + each

    def _summary(self, found: Mapping[str, np.ndarray], truth: np.ndarray) -> dict[str, Any]:
        """Compare with the best baseline, columns as units."""
        each = {name: column_correlations(values, truth) for name, values in found.items()}
        rivals = [name for name in each if name != self.name]
        best = max(rivals, key=lambda name: float(each[name].mean()))
        gap = paired_difference(each[self.name], each[best], seed=self.seed)
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", "pearson")
        return {"headline": text, "best_baseline": best, **gap.to_dict()}

    def _features(self, adata: AnnData, fitted: _Fitted) -> np.ndarray:
        if self.use_rep is None:
            return as_dense(aligned(adata, fitted.var_names)[:, fitted.chosen])
        return embedded(adata, self.use_rep, fitted.width)

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.cross_modality", self._parameters, self.seed)


def with_target(source: AnnData, target: AnnData, *, key: str = "target") -> AnnData:
    """Return a copy of ``source`` that holds the ``X`` of ``target`` in ``obsm[key]``.

    Cells are matched by name; those of one side only are left out.
    """
    common = source.obs_names[source.obs_names.isin(target.obs_names)]
    if not len(common):
        msg = (
            f"No cell of {source.n_obs} is among the {target.n_obs} of the target, by name, e.g. "
            f"{source.obs_names[0]!r} and {target.obs_names[0]!r}. The cells must be the same."
        )
        raise DataError(msg)
    cells = source[common].copy()
    values = as_dense(features_of(target[common], None))
    cells.obsm[key] = pd.DataFrame(values, index=cells.obs_names, columns=list(target.var_names))
    return cells


def _target(adata: AnnData, key: str) -> tuple[np.ndarray, np.ndarray]:
    if key not in adata.obsm:
        msg = (
            f"`adata.obsm` has no {key!r}.{closest(key, adata.obsm)} It has: "
            f"{one_of(adata.obsm)}. Put the measured values there, e.g. by `with_target`."
        )
        raise DataError(msg)
    table = adata.obsm[key]
    values = as_dense(features_of(adata, key)).astype(np.float64)
    names = list(table.columns) if isinstance(table, pd.DataFrame) else range(values.shape[1])
    return values, np.array([str(n) for n in names])
