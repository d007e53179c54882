r"""Which types surround a cell, and how densely, told from the cell alone.

The targets of a cell are the shares of each type among its ``k`` nearest neighbours in the same
section, and the density :math:`-\log(r_k / \tilde r_k)`, with :math:`r_k` the distance of the last
of them and :math:`\tilde r_k` its median in the section. Places are needed to learn and to be
scored; prediction needs the embedding alone, so context carries over to dissociated cells.
Baselines: the mean of training, the mean of the cell's own type, ridge on principal axes of ``X``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.decomposition import TruncatedSVD

from cellweave.errors import ConfigError, DataError
from cellweave.kernels.neighbours import nearest
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import (
    aligned,
    as_dense,
    column_of,
    embedded,
    features_of,
    fingerprints,
    labels_of,
)
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.regressors import Regressor, column_correlations, make_regressor
from cellweave_tasks.spatial import places_of
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["DENSITY", "NeighbourhoodTask", "composition_and_density"]

DENSITY = "density"
_OF_TYPE, _PCA = "mean of the cell's type", "ridge on PCA of X"
_COMPONENTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The regressors, the means, and how training is known again."""

    own: Regressor
    pca: Regressor
    reduction: TruncatedSVD
    mean: np.ndarray
    of_type: Mapping[str, np.ndarray]
    types: np.ndarray
    names: np.ndarray
    cells: np.ndarray
    groups: np.ndarray | None
    width: int


class NeighbourhoodTask:
    """Predict composition and density of a cell's surroundings.

    Parameters
    ----------
    use_rep
        ``obsm`` key of an embedding; ``None`` takes ``X``.
    type_key
        ``obs`` column of types; read of training cells, and of test cells to score.
    spatial_key
        ``obsm`` key of coordinates.
    section_key
        ``obs`` column of sections; cells of one never neighbour those of another.
    group_key
        ``obs`` column of sections or patients that must not be in training and in the test.
    k
        Number of neighbours.
    method
        ``"kernel"``, ``"ridge"``, ``"knn"`` or ``"blend"``.
    seed
        Of what is random.

    Examples
    --------
    >>> task = NeighbourhoodTask(k=20, method="ridge")
    >>> task.name
    'ridge on X_pca'
    """

    def __init__(
        self,
        *,
        use_rep: str | None = "X_pca",
        type_key: str = "cell_type",
        spatial_key: str = "spatial",
        section_key: str | None = None,
        group_key: str | None = None,
        k: int = 20,
        method: str = "kernel",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        make_regressor(method, seed=seed)
        if k < 1:
            msg = f"k is {k!r}. Expected a number of neighbours of 1 or more."
            raise ConfigError(msg)
        self.use_rep, self.type_key, self.spatial_key = use_rep, type_key, spatial_key
        self.section_key, self.group_key = section_key, group_key
        self.k, self.method, self.seed = k, method, seed
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'X'}"

    def fit(self, adata: AnnData) -> Self:
        """Learn from cells with places and types."""
        labels = labels_of(adata, self.type_key)
        types = np.unique(labels)
        targets = self._targets(adata, labels, types)
        values = features_of(adata, None)
        own = as_dense(features_of(adata, self.use_rep)).astype(np.float64)
        size = max(1, min(_COMPONENTS, min(values.shape) - 1))
        reduction = TruncatedSVD(n_components=size, random_state=self.seed).fit(values)
        self._fitted = _Fitted(
            own=make_regressor(self.method, seed=self.seed).fit(own, targets),
            pca=make_regressor("ridge", seed=self.seed).fit(reduction.transform(values), targets),
            reduction=reduction,
            mean=targets.mean(axis=0),
            of_type={t: targets[labels == t].mean(axis=0) for t in types.tolist()},
            types=types,
            names=np.asarray(adata.var_names, dtype=str),
            cells=fingerprints(own),
            groups=column_of(adata, self.group_key) if self.group_key else None,
            width=own.shape[1],
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict for every cell: the share of each type around it, and ``density``; no places."""
        fitted = need_fit(self._fitted, "NeighbourhoodTask")
        found = _tidy(fitted.own.predict(self._features(adata, fitted)))
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=found.astype(np.float32),
            columns=np.array([*fitted.types, DENSITY]),
            provenance=self._provenance(),
        )

    def truth(self, adata: AnnData) -> np.ndarray:
        """Return the measured surroundings of each cell, columns as in predictions."""
        fitted = need_fit(self._fitted, "NeighbourhoodTask")
        return self._targets(adata, labels_of(adata, self.type_key, kinds=1), fitted.types)

    def evaluate(self, adata: AnnData) -> Scores:
        """Score against measured surroundings, beside the baselines."""
        fitted = need_fit(self._fitted, "NeighbourhoodTask")
        features = self._features(adata, fitted)
        refuse_leaks(
            train_cells=fitted.cells,
            test_cells=fingerprints(features),
            train_groups=fitted.groups,
            test_groups=column_of(adata, self.group_key) if self.group_key else None,
            group_key=self.group_key or "",
        )
        truth = self.truth(adata)
        found = self._predictions(adata, features, fitted)
        items: list[Score] = []
        for name, values in found.items():
            items += self._scores(name, values, truth, fitted)
        lost = {n: _squared(v[:, :-1], truth[:, :-1]) for n, v in found.items()}
        best = min((n for n in lost if n != self.name), key=lambda n: float(lost[n].mean()))
        gap = paired_difference(-lost[self.name], -lost[best], seed=self.seed)
        metric = "less squared error of composition:"
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", metric)
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, "best_baseline": best, **gap.to_dict()},
        )

    def _predictions(
        self, adata: AnnData, features: np.ndarray, fitted: _Fitted
    ) -> dict[str, np.ndarray]:
        labels = labels_of(adata, self.type_key, kinds=1)
        reduced = fitted.reduction.transform(aligned(adata, fitted.names))
        return {
            self.name: _tidy(fitted.own.predict(features)),
            _OF_TYPE: np.stack([fitted.of_type.get(t, fitted.mean) for t in labels.tolist()]),
            _PCA: _tidy(fitted.pca.predict(reduced)),
            "mean": np.tile(fitted.mean, (len(labels), 1)),
        }

    def _scores(
        self, name: str, values: np.ndarray, truth: np.ndarray, fitted: _Fitted
    ) -> list[Score]:
        columns = [*fitted.types.tolist(), DENSITY]
        varies = truth.std(axis=0) > 1e-9
        shown = np.where(varies, column_correlations(values, truth), np.nan)
        shares, near = truth[:, :-1], values[:, :-1]
        spread = float(_squared(np.broadcast_to(fitted.mean[:-1], shares.shape), shares).mean())

        def score(metric: str, value: float, **more: Any) -> Score:
            known = value if np.isfinite(value) else None
            note = "" if known is not None else "constant in the test"
            return Score(metric=metric, value=known, method=name, seed=self.seed, note=note, **more)

        return [
            score("pearson", float(np.nanmean(shown[:-1])) if varies[:-1].any() else np.nan,
                  best=1.0, chance=0.0),
            *(score("pearson", float(v), best=1.0, chance=0.0, group=c)
              for v, c in zip(shown[:-1], columns[:-1], strict=True)),
            score("pearson_density", float(shown[-1]), best=1.0, chance=0.0),
            score("jensen_shannon", float(_divergence(near, shares).mean()), best=0.0,
                  higher_is_better=False),
            score("relative_mse", float(_squared(near, shares).mean()) / max(spread, 1e-12),
                  best=0.0, chance=1.0, higher_is_better=False),
        ]  # fmt: skip

    def _targets(self, adata: AnnData, labels: np.ndarray, types: np.ndarray) -> np.ndarray:
        sections = (
            column_of(adata, self.section_key) if self.section_key else np.full(adata.n_obs, "")
        )
        places = places_of(adata, self.spatial_key)
        return composition_and_density(places, labels, sections, types, k=self.k)

    def _features(self, adata: AnnData, fitted: _Fitted) -> np.ndarray:
        if self.use_rep is None:
            return as_dense(aligned(adata, fitted.names)).astype(np.float64)
        return embedded(adata, self.use_rep, fitted.width).astype(np.float64)

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.neighbourhood", self._parameters, self.seed)


def composition_and_density(
    places: np.ndarray, labels: np.ndarray, sections: np.ndarray, types: np.ndarray, *, k: int
) -> np.ndarray:
    """Return the shares of ``types`` among each cell's nearest, and the density.

    Shares are of all neighbours: those of a type not in ``types`` count for none.
    """
    out = np.zeros((len(places), len(types) + 1))
    codes = np.searchsorted(types, labels)
    known = types[np.minimum(codes, len(types) - 1)] == labels
    onehot = np.eye(len(types))[np.minimum(codes, len(types) - 1)] * known[:, None]
    for section in sorted(set(sections.tolist())):
        rows = np.flatnonzero(sections == section)
        near = min(k, len(rows) - 1)
        if near < 1:
            msg = f"Section {section!r} has one cell, which has no neighbour. Drop it."
            raise DataError(msg)
        at, away = nearest(places[rows], k=near, exclude_self=True)
        for step in range(near):
            out[rows, :-1] += onehot[rows[at[:, step]]] / near
        reach = np.maximum(away[:, -1], 1e-12)
        out[rows, -1] = -np.log(reach / np.median(reach))
    return out


def _tidy(found: np.ndarray) -> np.ndarray:
    """Make shares of the predicted composition: not below 0, no more than 1 in all."""
    shares = np.maximum(found[:, :-1], 0.0)
    total = shares.sum(axis=1, keepdims=True)
    shares = np.where(total > 1, shares / np.maximum(total, 1e-12), shares)
    return np.hstack([shares, found[:, -1:]])


def _squared(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.asarray(((found - truth) ** 2).sum(axis=1))


def _divergence(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of each row, in bits."""
    p, q = (np.maximum(a, 0) for a in (found, truth))
    p, q = (a / np.maximum(a.sum(axis=1, keepdims=True), 1e-12) for a in (p, q))
    middle = (p + q) / 2

    def against(a: np.ndarray) -> np.ndarray:
        ratio = np.divide(a, middle, out=np.ones_like(a), where=a > 0)
        return np.asarray((a * np.log2(ratio)).sum(axis=1))

    return (against(p) + against(q)) / 2
