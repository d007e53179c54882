r"""Generate cells of a type or condition, scored against held-out real cells of the same.

The generator draws from a Gaussian of shrunken covariance per label in the space given, or mixes
near training cells (``"mixing"``: a cell moved part of the way to one of its neighbours). Scores:

- ``mmd``: :math:`E k(x,x') + E k(y,y') - 2 E k(x,y)`, Gaussian kernels at three widths around the
  median distance of the real cells; 0 for one distribution (Gretton et al. 2012);
- ``two_sample_auroc``: how well a classifier tells generated from real cells, cross-validated;
  0.5 is perfect (Lopez-Paz and Oquab 2017);
- ``wasserstein``: the mean over axes of the distance between the two distributions, in units of
  the real cells' spread.

The baseline to reach is *resampling*: training cells of the label, drawn with replacement. No
generator of new cells should be expected to beat it in these scores; *one Gaussian for all labels*
and *the mean of the label* are what it must beat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.stats import wasserstein_distance
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.kernels.neighbours import nearest
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import as_dense, features_of, fingerprints, labels_of
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GenerationTask", "mmd", "two_sample_auroc"]

_METHODS = ("gaussian", "mixing")
_BASELINES = ("resampling", "one gaussian", "mean of label")
_MOST_CELLS = 500
_MOST_AXES = 20

Draw = Callable[[str, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A way to draw cells for each method, and by what training cells are known again."""

    draws: Mapping[str, Draw]
    labels: tuple[str, ...]
    cells: np.ndarray
    width: int


class GenerationTask:
    """Generate cells with given labels.

    Parameters
    ----------
    use_rep
        ``obsm`` key of the space to generate in.
    label_key
        ``obs`` column of what is asked for: type, tissue, condition.
    method
        ``"mixing"`` or ``"gaussian"``.
    seed
        Of every draw.

    Examples
    --------
    >>> import cellweave
    >>> cells = cellweave.datasets.simulate(n_cells=300, modalities=("rna",), prepared=True)["rna"]
    >>> task = GenerationTask(method="gaussian").fit(cells[:150])
    >>> scores = task.evaluate(cells[150:])
    >>> scores.value("mmd", method=task.name) < scores.value("mmd", method="mean of label")
    True
    """

    def __init__(
        self,
        *,
        use_rep: str = "X_pca",
        label_key: str = "cell_type",
        method: str = "mixing",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        if method not in _METHODS:
            hint = closest(method, _METHODS)
            msg = f"Unknown method {method!r}.{hint} Available: {one_of(_METHODS)}."
            raise ConfigError(msg)
        self.use_rep, self.label_key, self.method, self.seed = use_rep, label_key, method, seed
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and its space, as in tables."""
        return f"{self.method} in {self.use_rep}"

    def needs_labels(self, adata: AnnData) -> tuple[str, ...]:
        """Name the columns without which a cell cannot be used."""
        return (self.label_key,)

    def fit(self, adata: AnnData) -> Self:
        """Learn the distribution of each label."""
        labels = labels_of(adata, self.label_key)
        points = as_dense(features_of(adata, self.use_rep)).astype(np.float64)
        groups = {label: points[labels == label] for label in sorted(set(labels.tolist()))}
        everything = dict.fromkeys(groups, points)
        draws: dict[str, Draw] = {
            "gaussian": _gaussian(groups),
            "mixing": _mixing(groups),
            "resampling": lambda label, n, rng: groups[label][
                rng.integers(0, len(groups[label]), n)
            ],
            "one gaussian": _gaussian(everything),
            "mean of label": lambda label, n, rng: np.tile(groups[label].mean(axis=0), (n, 1)),
        }
        self._fitted = _Fitted(
            draws=draws,
            labels=tuple(groups),
            cells=fingerprints(points.astype(np.float32)),
            width=points.shape[1],
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Generate one cell for every row of ``adata``, with its label; values are not read."""
        fitted = need_fit(self._fitted, "GenerationTask")
        labels = self._known_labels(adata, fitted)
        values = np.empty((adata.n_obs, fitted.width), dtype=np.float32)
        for label in sorted(set(labels.tolist())):
            rows = np.flatnonzero(labels == label)
            values[rows] = self._draw(fitted, self.method, label, len(rows))
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=values,
            provenance=self._provenance(),
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Score generated against real cells, label by label, beside the baselines."""
        fitted = need_fit(self._fitted, "GenerationTask")
        labels = self._known_labels(adata, fitted)
        points = as_dense(features_of(adata, self.use_rep)).astype(np.float64)
        refuse_leaks(train_cells=fitted.cells, test_cells=fingerprints(points.astype(np.float32)))
        kinds = [k for k in sorted(set(labels.tolist())) if (labels == k).sum() >= 10]
        if not kinds:
            msg = "No label has 10 test cells or more: distributions cannot be compared."
            raise DataError(msg)
        items: list[Score] = []
        each: dict[str, np.ndarray] = {}
        for method in (self.method, *_BASELINES):
            shown = self.name if method == self.method else method
            rows = [self._compare(fitted, method, k, points[labels == k]) for k in kinds]
            each[shown] = np.array([row["mmd"] for row in rows])
            items += self._items(shown, kinds, rows)
        gap = paired_difference(each["one gaussian"], each[self.name], seed=self.seed)
        text = difference_sentence(gap, self.name, "one Gaussian for all labels", "mmd lower by")
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, **gap.to_dict()},
        )

    def _compare(
        self, fitted: _Fitted, method: str, label: str, real: np.ndarray
    ) -> dict[str, float]:
        rng = np.random.default_rng([self.seed, 1])
        if len(real) > _MOST_CELLS:
            real = real[np.sort(rng.choice(len(real), _MOST_CELLS, replace=False))]
        made = self._draw(fitted, method, label, len(real))
        spread = np.maximum(real.std(axis=0), 1e-12)
        axes = range(real.shape[1])
        apart = [wasserstein_distance(real[:, j] / spread[j], made[:, j] / spread[j]) for j in axes]
        return {
            "mmd": mmd(real, made),
            "two_sample_auroc": two_sample_auroc(real, made, seed=self.seed),
            "wasserstein": float(np.mean(apart)),
        }

    def _items(self, method: str, kinds: list[str], rows: list[dict[str, float]]) -> list[Score]:
        items = []
        for metric in rows[0]:
            values = [row[metric] for row in rows]
            for group, value in (("", float(np.mean(values))), *zip(kinds, values, strict=True)):
                items.append(
                    Score(
                        metric=metric,
                        value=value,
                        method=method,
                        group=group,
                        higher_is_better=False,
                        best=0.5 if metric == "two_sample_auroc" else 0.0,
                        seed=self.seed,
                    )
                )
        return items

    def _draw(self, fitted: _Fitted, method: str, label: str, n: int) -> np.ndarray:
        # One stream a label, so that cells of one do not depend on which others are asked for.
        key = [self.seed, fitted.labels.index(label)]
        return fitted.draws[method](label, n, np.random.default_rng(key))

    def _known_labels(self, adata: AnnData, fitted: _Fitted) -> np.ndarray:
        labels = labels_of(adata, self.label_key, kinds=1)
        unknown = sorted(set(labels.tolist()) - set(fitted.labels))
        if unknown:
            msg = (
                f"Training has no cell labelled {unknown[0]!r}. It has: {one_of(fitted.labels)}. "
                "Ask for those."
            )
            raise DataError(msg)
        return labels

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.generation", self._parameters, self.seed)


def mmd(left: np.ndarray, right: np.ndarray) -> float:
    """Return the unbiased squared MMD, mean over three widths; can fall just below 0."""
    within, other, across = (
        _squares(a, b) for a, b in ((left, left), (right, right), (left, right))
    )
    middle = float(np.median(within[np.triu_indices(len(left), 1)])) or 1.0
    values = []
    for width in (0.5 * middle, middle, 2 * middle):
        same = sum(_mean_off_diagonal(np.exp(-s / width)) for s in (within, other))
        values.append(same - 2 * float(np.exp(-across / width).mean()))
    return float(np.mean(values))


def two_sample_auroc(real: np.ndarray, made: np.ndarray, *, seed: int = 0) -> float:
    """Return how well a classifier with squares and products of the first axes tells them apart."""
    points = np.vstack([real, made])[:, :_MOST_AXES]
    is_made = np.repeat([0, 1], [len(real), len(made)])
    table = PolynomialFeatures(2, include_bias=False).fit_transform(
        StandardScaler().fit_transform(points)
    )
    model = LogisticRegression(C=0.01, max_iter=300)
    folds = StratifiedKFold(min(5, len(real), len(made)), shuffle=True, random_state=seed)
    scores = cross_val_predict(model, table, is_made, cv=folds, method="decision_function")
    # A classifier that is worse than chance has learnt that nothing is to be learnt.
    return max(float(roc_auc_score(is_made, scores)), 0.5)


def _gaussian(groups: Mapping[str, np.ndarray]) -> Draw:
    known = {}
    for label, points in groups.items():
        covariance = ledoit_wolf(points)[0] if len(points) > 2 else np.zeros((points.shape[1],) * 2)
        values, vectors = np.linalg.eigh(covariance)
        known[label] = points.mean(axis=0), vectors * np.sqrt(np.maximum(values, 0))

    def draw(label: str, n: int, rng: np.random.Generator) -> np.ndarray:
        mean, root = known[label]
        return mean + rng.normal(size=(n, len(mean))) @ root.T

    return draw


def _mixing(groups: Mapping[str, np.ndarray], k: int = 10) -> Draw:
    """Move a cell towards a neighbour and away from the mean, so that the spread is kept."""
    near = {
        label: nearest(points, k=min(k, len(points) - 1), exclude_self=True)[0]
        for label, points in groups.items()
        if len(points) > 1
    }

    def draw(label: str, n: int, rng: np.random.Generator) -> np.ndarray:
        points = groups[label]
        at = rng.integers(0, len(points), n)
        if label not in near:
            return points[at]
        other = near[label][at, rng.integers(0, near[label].shape[1], n)]
        part = rng.uniform(0, 1, (n, 1))
        mixed = (1 - part) * points[at] + part * points[other]
        mean = points.mean(axis=0)
        # Between two cells the spread shrinks; each axis is stretched back to that of the label.
        stretch = points.std(axis=0) / np.maximum(_mixed_spread(points, near[label]), 1e-12)
        return mean + (mixed - mean) * np.minimum(stretch, 3.0)

    return draw


def _mixed_spread(points: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the spread of mixed cells about the mean, integrated over the part taken of each."""
    own = points - points.mean(axis=0)
    other = own[near]
    moments = own[:, None] ** 2 + other**2 + own[:, None] * other
    return np.sqrt(np.maximum(moments.mean(axis=(0, 1)) / 3, 1e-12))


def _squares(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    own = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)
    return np.maximum(own - 2 * left @ right.T, 0.0)


def _mean_off_diagonal(kernel: np.ndarray) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
