r"""Recover expression that was missed, scored on counts that were held out by binomial thinning.

Each count :math:`c` is split into :math:`k \sim \mathrm{Bin}(c, p)`, which the method sees, and
:math:`h = c - k`, which it is scored on. For Poisson counts both are independent given the cell,
so no method can gain by copying noise that it saw (Batson, Royer and Webber 2019). Methods learn on
thinned training cells to tell :math:`\log(1 + s\,h)` from what they see of :math:`k`. The default
weighs what like cells have with what the cell itself showed (:mod:`cellweave_tasks.shrinkage`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.kernels.neighbours import nearest
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import as_dense, column_of, counts_of, features_of, fingerprints
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.regressors import Regressor, column_correlations, make_regressor
from cellweave_tasks.shrinkage import Shrinkage
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["HELD_OUT", "ImputationTask", "thinned"]

HELD_OUT = "held_out"
_METHODS = ("shrinkage", "ridge", "knn", "kernel")
_MOST_GENES = 2000
_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The models, the axes they see, and the training cells for smoothing."""

    own: Regressor | Shrinkage
    baselines: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]
    reduction: TruncatedSVD
    genes: np.ndarray
    var_names: np.ndarray
    cells: np.ndarray
    groups: np.ndarray | None


class ImputationTask:
    """Impute expression from few counts.

    Parameters
    ----------
    use_rep
        ``obsm`` key of an embedding *of thinned counts* (see :func:`thinned`); ``None`` takes
        principal axes of the thinned counts.
    layer
        Layer of raw counts.
    group_key
        ``obs`` column of donors or batches that must not be in training and in the test.
    method
        ``"ridge"``, ``"knn"`` or ``"kernel"``, from the axes to expression; ``"shrinkage"``:
        ``"kernel"``, and the cell's own counts as far as those of the gene can be trusted.
    keep
        Share of counts that methods see.
    n_components
        Number of principal axes.
    seed
        Of thinning, axes and validation.

    Examples
    --------
    >>> import cellweave
    >>> cells = cellweave.datasets.simulate(n_cells=200, modalities=("rna",), prepared=True)["rna"]
    >>> task = ImputationTask().fit(cells[:150])
    >>> task.evaluate(cells[150:]).value("pearson", method=task.name) > 0
    True
    """

    def __init__(
        self,
        *,
        use_rep: str | None = None,
        layer: str = "counts",
        group_key: str | None = None,
        method: str = "shrinkage",
        keep: float = 0.5,
        n_components: int = 30,
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        if method not in _METHODS:
            hint = closest(method, _METHODS)
            msg = f"Unknown method {method!r}.{hint} Available: {one_of(_METHODS)}."
            raise ConfigError(msg)
        if not 0 < keep < 1:
            msg = f"keep is {keep!r}. Expected a share between 0 and 1."
            raise ConfigError(msg)
        self.use_rep, self.layer, self.method = use_rep, layer, method
        self.keep, self.n_components, self.seed = keep, n_components, seed
        self.group_key = group_key
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'PCA of thinned counts'}"

    def fit(self, adata: AnnData) -> Self:
        """Thin the training cells and learn to tell the held-out half."""
        kept, held = self._halves(adata)
        genes = _genes_to_score(held)
        seen, targets = _log_rates(kept), as_dense(_log_rates(held)[:, genes]).astype(np.float64)
        size = min(self.n_components, min(seen.shape) - 1)
        reduction = TruncatedSVD(n_components=size, random_state=self.seed).fit(seen)
        axes = np.asarray(reduction.transform(seen), dtype=np.float64)
        own = axes if self.use_rep is None else self._embedding(adata)
        measured = as_dense(seen[:, genes]).astype(np.float64)
        self._fitted = _Fitted(
            own=self._learnt(own, measured, targets),
            baselines=_baselines(axes, measured, targets, self.seed),
            reduction=reduction,
            genes=genes,
            var_names=np.asarray(adata.var_names, dtype=str),
            cells=fingerprints(sp.csr_matrix(kept + held)),
            groups=column_of(adata, self.group_key) if self.group_key else None,
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Impute log rates of the genes scored, from all counts of each cell."""
        fitted = need_fit(self._fitted, "ImputationTask")
        counts = self._counts(adata, fitted)
        seen = _log_rates(counts)
        told = self._told(adata, seen, fitted)
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=np.maximum(told, 0.0).astype(np.float32),
            columns=fitted.var_names[fitted.genes],
            provenance=self._provenance(),
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Thin the test cells, impute from one part, score on the other."""
        fitted = need_fit(self._fitted, "ImputationTask")
        whole = self._counts(adata, fitted)
        kept, held = self._halves(adata)
        known = fingerprints(sp.csr_matrix(kept + held) if HELD_OUT in adata.layers else whole)
        refuse_leaks(
            train_cells=fitted.cells,
            test_cells=known,
            train_groups=fitted.groups,
            test_groups=column_of(adata, self.group_key) if self.group_key else None,
            group_key=self.group_key or "",
        )
        seen = _log_rates(kept)
        truth = as_dense(_log_rates(held)[:, fitted.genes]).astype(np.float64)
        axes = np.asarray(fitted.reduction.transform(seen), dtype=np.float64)
        measured = as_dense(seen[:, fitted.genes]).astype(np.float64)
        found = {self.name: self._told(adata, seen, fitted)}
        found |= {name: model(axes, measured) for name, model in fitted.baselines.items()}
        items: list[Score] = []
        for name, values in found.items():
            items += self._items(name, values, truth)
        each = {name: column_correlations(values, truth) for name, values in found.items()}
        best = max((n for n in each if n != self.name), key=lambda n: float(each[n].mean()))
        gap = paired_difference(each[self.name], each[best], seed=self.seed)
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", "pearson")
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, "best_baseline": best, **gap.to_dict()},
        )

    def _items(self, name: str, values: np.ndarray, truth: np.ndarray) -> list[Score]:
        spread = float(((truth - truth.mean(axis=0)) ** 2).mean())
        error = float(((values - truth) ** 2).mean()) / max(spread, 1e-12)
        return [
            Score(
                metric="pearson",
                value=float(column_correlations(values, truth).mean()),
                method=name,
                best=1.0,
                chance=0.0,
                seed=self.seed,
                note="with held-out counts, whose noise keeps it below 1",
            ),
            Score(
                metric="relative_mse",
                value=error,
                method=name,
                higher_is_better=False,
                best=0.0,
                chance=1.0,
                seed=self.seed,
                note="squared error over the variance of genes",
            ),
        ]

    def _halves(self, adata: AnnData) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        if HELD_OUT in adata.layers:
            return counts_of(adata, self.layer), counts_of(adata, HELD_OUT)
        if self.use_rep is not None:
            msg = (
                f"`obsm[{self.use_rep!r}]` was made from the counts that are to be scored. Thin "
                "first with `cellweave_tasks.thinned(adata)`, embed the result, and give that."
            )
            raise DataError(msg)
        return _split(counts_of(adata, self.layer), self.keep, self.seed)

    def _counts(self, adata: AnnData, fitted: _Fitted) -> sp.csr_matrix:
        if not np.array_equal(np.asarray(adata.var_names, dtype=str), fitted.var_names):
            msg = (
                f"These cells have {adata.n_vars} genes, training had {len(fitted.var_names)}, or "
                "in another order. Give the genes of training: adata[:, names]."
            )
            raise DataError(msg)
        return counts_of(adata, self.layer)

    def _learnt(
        self, features: np.ndarray, measured: np.ndarray, targets: np.ndarray
    ) -> Regressor | Shrinkage:
        if self.method == "shrinkage":
            return Shrinkage(seed=self.seed).fit(features, measured, targets)
        return make_regressor(self.method, seed=self.seed).fit(features, targets)

    def _told(self, adata: AnnData, seen: sp.csr_matrix, fitted: _Fitted) -> np.ndarray:
        features = self._features(adata, seen, fitted)
        if isinstance(fitted.own, Shrinkage):
            measured = as_dense(seen[:, fitted.genes]).astype(np.float64)
            return fitted.own.predict(features, measured)
        return fitted.own.predict(features)

    def _features(self, adata: AnnData, seen: sp.csr_matrix, fitted: _Fitted) -> np.ndarray:
        if self.use_rep is None:
            return np.asarray(fitted.reduction.transform(seen), dtype=np.float64)
        return self._embedding(adata)

    def _embedding(self, adata: AnnData) -> np.ndarray:
        return as_dense(features_of(adata, self.use_rep)).astype(np.float64)

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.imputation", self._parameters, self.seed)


def thinned(adata: AnnData, *, keep: float = 0.5, layer: str = "counts", seed: int = 0) -> AnnData:
    """Return a copy that holds a share of the counts, and the rest in ``layers["held_out"]``.

    ``X`` is the log-normalised kept part. Embed the result with any model, then score by
    ``ImputationTask(use_rep=…)``.
    """
    kept, held = _split(counts_of(adata, layer), keep, seed)
    copy = adata.copy()
    copy.obsm.clear()
    copy.X = _log_rates(kept)
    copy.layers[layer], copy.layers[HELD_OUT] = kept, held
    return copy


def _split(counts: sp.csr_matrix, keep: float, seed: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    drawn = np.random.default_rng(seed).binomial(counts.data.astype(np.int64), keep)
    kept, held = counts.copy(), counts.copy()
    kept.data = drawn.astype(np.float32)
    held.data = (counts.data - drawn).astype(np.float32)
    kept.eliminate_zeros()
    held.eliminate_zeros()
    return kept, held


def _log_rates(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return the logarithm of counts per ten thousand, plus one."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.divide(1e4, total, out=np.zeros(len(total)), where=total > 0)
    rates = sp.csr_matrix(sp.diags(scale) @ counts).astype(np.float32)
    rates.data = np.log1p(rates.data)
    return rates


def _genes_to_score(held: sp.csr_matrix) -> np.ndarray:
    """Return the genes with most held-out counts: rarer ones say nothing in a correlation."""
    detected = np.asarray((held > 0).sum(axis=0)).ravel()
    n = min(_MOST_GENES, max(int((detected >= 0.02 * held.shape[0]).sum()), 1))
    return np.sort(np.argsort(-detected, kind="stable")[:n])


def _baselines(
    axes: np.ndarray, measured: np.ndarray, targets: np.ndarray, seed: int
) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    mean = make_regressor("mean").fit(axes, targets)
    linear = make_regressor("ridge", seed=seed).fit(axes, targets)
    knn = make_regressor("knn").fit(axes, targets)
    return {
        "mean": lambda a, m: mean.predict(a),
        "as measured": lambda a, m: m,
        "knn": lambda a, m: knn.predict(a),
        "diffusion": lambda a, m: _diffused(np.vstack([axes, a]), np.vstack([measured, m]))[
            len(axes) :
        ],
        "linear": lambda a, m: linear.predict(a),
    }


def _diffused(axes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Smooth over a graph of near cells for a few steps (the idea of MAGIC)."""
    n, k = len(axes), min(15, len(axes) - 1)
    at, away = nearest(axes, k=k, exclude_self=True)
    width = np.maximum(away[:, [k // 2]], 1e-12)
    weights = np.exp(-((away / width) ** 2))
    rows = np.repeat(np.arange(n), k)
    graph = sp.csr_matrix((weights.ravel(), (rows, at.ravel())), shape=(n, n))
    graph = graph + graph.T + sp.eye(n)
    walk = sp.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph
    for _ in range(_STEPS):
        values = np.asarray(walk @ values)
    return values
