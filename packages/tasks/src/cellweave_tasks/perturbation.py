"""Predict what a perturbation does: to an unseen gene, pair of genes or cell type.

The task sees mean changes against the control cells of the same context, and stands beside four
plain models: no change, the mean of training perturbations, their sum, and ridge regression. If it
does not beat the mean of training perturbations, the first sentence of its summary says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD

from cellweave.errors import DataError, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import aligned, as_dense, features_of, fingerprints
from cellweave_tasks.gene_embeddings import gene_embedding_of
from cellweave_tasks.perturbation_data import (
    ALL,
    Cells,
    Unit,
    cells_of,
    mean_of,
    noise_of,
    parse_condition,
    require_control,
)
from cellweave_tasks.perturbation_inputs import (
    decoder_of,
    graphs_of,
    kind_of,
    require_method,
    some_rows,
)
from cellweave_tasks.perturbation_models import (
    BASELINES,
    Query,
    Response,
    Training,
    make_response,
)
from cellweave_tasks.perturbation_scores import (
    DIRECTIONS,
    e_distance,
    pearson,
    ranks_of_own,
    response_scores,
    top_genes,
)
from cellweave_tasks.perturbation_similarity import likeness, likeness_groups
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Change", "PerturbationTask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The models, and the control cells of training by context."""

    training: Training
    responses: Mapping[str, Response]
    reduction: TruncatedSVD
    controls: Mapping[str, np.ndarray | sp.csr_matrix]
    states: Mapping[str, np.ndarray]
    cells: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Truth:
    """One unit of the test: its cells, its control cells, the true change and top genes."""

    unit: Unit
    cells: np.ndarray | sp.csr_matrix
    control: np.ndarray | sp.csr_matrix
    change: np.ndarray
    top: np.ndarray
    query: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The predicted and the measured change of one unit, and its most changed features."""

    name: str
    predicted: np.ndarray
    true: np.ndarray
    top: np.ndarray


class PerturbationTask:
    """Predict the mean response of cells to perturbations.

    Parameters
    ----------
    use_rep
        ``obsm`` key of an embedding that the latent models work in; ``None`` takes principal axes
        of ``X``. ``X`` holds normalised logarithms, which are what is predicted.
    condition_key
        ``obs`` column: ``"ctrl"``, ``"A+ctrl"``, ``"A+B"`` or plain names.
    control
        What control is called.
    context_key
        ``obs`` column of cell types or lines; ``None`` for data of one.
    method
        ``"auto"`` (``"context_shift"`` for what training saw in another context, ``"graph"`` for
        what it never saw), ``"latent_shift"``, ``"linear"``, ``"probe"``, or one of the baselines.
    n_components
        Number of principal axes.
    gene_sets
        GMT file: genes of common sets respond alike (``"graph"``; co-expression is used always).
    gene_rep
        Embedding of genes that ``"probe"`` and ``"linear"`` read: a ``varm`` key, or an ``.npz``
        that ``Embedding.save`` wrote; principal axes when not given.
    seed
        Of what is random.

    Examples
    --------
    >>> task = PerturbationTask(context_key="cell_type", control="control")
    >>> task.name
    'auto on X'
    """

    def __init__(
        self,
        *,
        use_rep: str | None = None,
        condition_key: str = "condition",
        control: str = "ctrl",
        context_key: str | None = "cell_type",
        method: str = "auto",
        n_components: int = 50,
        gene_sets: str | None = None,
        gene_rep: str | None = None,
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        require_method(method, gene_sets=gene_sets, gene_rep=gene_rep)
        self.use_rep, self.condition_key, self.control = use_rep, condition_key, control
        self.context_key, self.method = context_key, method
        self.n_components, self.seed = n_components, seed
        self.gene_sets, self.gene_rep = gene_sets, gene_rep
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'X'}"

    def fit(self, adata: AnnData) -> Self:
        """Learn from control and perturbed cells; control cells of a context to predict help."""
        cells = cells_of(adata, self.condition_key, self.control, self.context_key)
        require_control(cells, self.control)
        values = features_of(adata, None)
        size = min(self.n_components, min(values.shape) - 1)
        reduction = TruncatedSVD(n_components=size, random_state=self.seed).fit(values)
        latent = self._latent(adata, values, reduction)
        controls, perturbed = cells.controls(), cells.perturbed()
        lost = sorted({u.context for u in perturbed} - set(controls))
        if lost:
            msg = (
                f"{len(lost)} contexts have perturbed but no control cells, e.g. {lost[0]!r}. "
                "Keep the control cells of every context in training."
            )
            raise DataError(msg)
        states = {c: mean_of(latent, r) for c, r in controls.items()}
        means = {c: mean_of(values, r) for c, r in controls.items()}
        names = np.asarray(adata.var_names, dtype=str)
        loadings = reduction.components_.T * reduction.singular_values_
        unsure = {c: noise_of(values, r) for c, r in controls.items()}
        training = Training(
            units=tuple(perturbed),
            deltas=np.stack([mean_of(values, r) - means[u.context] for u, r in perturbed.items()]),
            latent=np.stack([mean_of(latent, r) - states[u.context] for u, r in perturbed.items()]),
            states=np.stack([states[u.context] for u in perturbed]),
            decoder=decoder_of(values, latent, reduction if self.use_rep is None else None),
            loadings=loadings,
            names=names,
            noise=np.array([noise_of(values, r) + unsure[u.context] for u, r in perturbed.items()]),
            graphs=graphs_of(values, names, perturbed, gene_sets=self.gene_sets, seed=self.seed)
            if self.method in ("graph", "auto")
            else (),
            gene_embedding=gene_embedding_of(adata, self.gene_rep) or (names, loadings),
        )
        kept = np.sort(np.concatenate(list(perturbed.values())))
        self._fitted = _Fitted(
            training=training,
            responses={m: make_response(m, training) for m in (self.method, *BASELINES)},
            reduction=reduction,
            controls={c: values[r] for c, r in controls.items()},
            states=states,
            cells=fingerprints(values[kept]),
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict the mean values of each unit that ``adata`` names, one row a unit.

        Cells' own values are used for controls of contexts that training lacks, and never else.
        """
        fitted = need_fit(self._fitted, "PerturbationTask")
        cells = cells_of(adata, self.condition_key, self.control, self.context_key)
        if not cells.perturbed():
            msg = f"All cells are {self.control!r}: there is no perturbation to predict."
            raise DataError(msg)
        rows = []
        for unit in cells.perturbed():
            control, state = self._control(adata, cells, unit.context, fitted)
            query = Query(unit=unit, state=state)
            rows.append(mean_of(control, np.arange(control.shape[0])) + self._respond(query))
        return Prediction(
            names=np.array([u.name for u in cells.perturbed()]),
            values=np.maximum(np.stack(rows), 0.0).astype(np.float32),
            columns=fitted.training.names,
            provenance=self._provenance(),
        )

    def perturb(self, adata: AnnData, *, condition: str) -> Prediction:
        """Predict each control cell of ``adata`` under a condition, as values of every feature."""
        fitted = need_fit(self._fitted, "PerturbationTask")
        values = as_dense(aligned(adata, fitted.training.names)).astype(np.float32)
        cells = cells_of(adata, self.condition_key, self.control, self.context_key)
        latent = self._latent(adata, values, fitted.reduction)
        what = parse_condition(condition, self.control)
        moved = values.copy()
        for context, rows in cells.controls().items():
            unit = Unit(what, context)
            moved[rows] += self._respond(Query(unit=unit, state=mean_of(latent, rows)))
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=np.maximum(moved, 0.0),
            columns=fitted.training.names,
            provenance=self._provenance(),
        )

    def reverse(self, goal: AnnData, *, context: str = ALL, k: int = 10) -> Prediction:
        """Return the ``k`` known perturbations whose predicted change points most to the goal.

        ``values`` is the correlation of the predicted change with that from the context's control
        cells of training to the mean of ``goal``.
        """
        fitted = need_fit(self._fitted, "PerturbationTask")
        if context not in fitted.controls:
            msg = f"Training has no context {context!r}. It has: {one_of(fitted.controls)}."
            raise DataError(msg)
        values = aligned(goal, fitted.training.names)
        start = fitted.controls[context]
        wanted = mean_of(values, np.arange(goal.n_obs)) - mean_of(start, np.arange(start.shape[0]))
        known = sorted({u.perturbations for u in fitted.training.units})
        units = [Unit(p, context) for p in known]
        state = fitted.states[context]
        agree = np.array(
            [pearson(self._respond(Query(unit=u, state=state)), wanted) for u in units]
        )
        best = np.argsort(-agree, kind="stable")[:k]
        return Prediction(
            names=np.array(["+".join(units[i].perturbations) for i in best]),
            values=agree[best].astype(np.float32),
            provenance=self._provenance(),
        )

    def changes(self, adata: AnnData) -> list[Change]:
        """Return the predicted beside the measured change of every unit in ``adata``."""
        fitted = need_fit(self._fitted, "PerturbationTask")
        cells = cells_of(adata, self.condition_key, self.control, self.context_key)
        values = aligned(adata, fitted.training.names)
        truths = [self._truth(adata, cells, values, u, fitted) for u in cells.perturbed()]
        return [
            Change(name=t.unit.name, predicted=self._respond(t.query), true=t.change, top=t.top)
            for t in truths
        ]

    def evaluate(self, adata: AnnData) -> Scores:
        """Score against perturbed cells, per unit and as means, beside the four baselines."""
        fitted = need_fit(self._fitted, "PerturbationTask")
        cells = cells_of(adata, self.condition_key, self.control, self.context_key)
        values = aligned(adata, fitted.training.names)
        self._refuse_known(cells, values, fitted)
        truths = [self._truth(adata, cells, values, u, fitted) for u in cells.perturbed()]
        items: list[Score] = []
        per_unit: dict[str, dict[str, np.ndarray]] = {}
        for model in dict.fromkeys((self.method, *BASELINES)):
            shown = self.name if model == self.method else model
            changes = np.stack([fitted.responses[model](t.query) for t in truths])
            per_unit[shown] = self._unit_scores(truths, changes, fitted)
            items += self._items(shown, truths, per_unit[shown], fitted)
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary=self._summary(per_unit),
        )

    def _truth(
        self,
        adata: AnnData,
        cells: Cells,
        values: np.ndarray | sp.csr_matrix,
        unit: Unit,
        fitted: _Fitted,
    ) -> _Truth:
        control, state = self._control(adata, cells, unit.context, fitted)
        own = as_dense(values[cells.rows[unit]]).astype(np.float64)
        dense = as_dense(control).astype(np.float64)
        return _Truth(
            unit=unit,
            cells=own,
            control=control,
            change=own.mean(axis=0) - dense.mean(axis=0),
            top=top_genes(own, dense),
            query=Query(unit=unit, state=state),
        )

    def _unit_scores(
        self, truths: list[_Truth], changes: np.ndarray, fitted: _Fitted
    ) -> dict[str, np.ndarray]:
        rows = [response_scores(c, t.change, t.top) for c, t in zip(changes, truths, strict=True)]
        table = {metric: np.array([row[metric] for row in rows]) for metric in rows[0]}
        table["e_distance"] = np.array(
            [self._e_distance(c, t, fitted) for c, t in zip(changes, truths, strict=True)]
        )
        ranks = np.full(len(truths), np.nan)
        for context in {t.unit.context for t in truths}:
            here = np.array([t.unit.context == context for t in truths])
            if here.sum() > 1:
                true = np.stack([t.change for t in truths if t.unit.context == context])
                ranks[here] = ranks_of_own(changes[here], true)
        table["rank_of_own"] = ranks
        return table

    def _e_distance(self, change: np.ndarray, truth: _Truth, fitted: _Fitted) -> float:
        rng = np.random.default_rng(self.seed)
        start = fitted.reduction.transform(some_rows(truth.control, rng))
        goal = fitted.reduction.transform(some_rows(truth.cells, rng))
        return e_distance(start + change @ fitted.reduction.components_.T, goal)

    def _items(
        self, method: str, truths: list[_Truth], table: Mapping[str, np.ndarray], fitted: _Fitted
    ) -> list[Score]:
        kinds = np.array([kind_of(t.unit, fitted.training.units) for t in truths])
        several = sorted(set(kinds.tolist())) if len(set(kinds.tolist())) > 1 else []
        own = fitted.training
        alike = likeness_groups(
            likeness([t.unit for t in truths], own.units, own.names, own.loadings)
        )
        items = []
        for metric, values in table.items():
            up, best, chance = DIRECTIONS[metric]
            groups = {"": np.ones(len(values), dtype=bool)}
            groups |= {kind: kinds == kind for kind in several} | alike
            groups |= {f"unit:{t.unit.name}": np.arange(len(values)) == i
                       for i, t in enumerate(truths)}  # fmt: skip
            for group, rows in groups.items():
                known = values[rows & np.isfinite(values)]
                note = "" if len(known) else "needs two test perturbations in one context"
                items.append(
                    Score(
                        metric=metric,
                        value=float(known.mean()) if len(known) else None,
                        method=method,
                        group=group,
                        higher_is_better=up,
                        best=best,
                        chance=chance,
                        seed=self.seed,
                        note=note,
                    )
                )
        return items

    def _summary(self, per_unit: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """Say first whether the model beats the mean of training perturbations."""
        metric = "pearson_delta"
        if self.method == "mean":
            return {"headline": "This is the mean of training perturbations itself."}
        gap = paired_difference(
            per_unit[self.name][metric], per_unit["mean"][metric], seed=self.seed
        )
        text = difference_sentence(gap, self.name, "the mean of training perturbations", metric)
        return {"headline": text, "beats_mean": gap.value > 0, **gap.to_dict()}

    def _refuse_known(
        self, cells: Cells, values: np.ndarray | sp.csr_matrix, fitted: _Fitted
    ) -> None:
        if not cells.perturbed():
            msg = f"All cells are {self.control!r}: there is no response to score."
            raise DataError(msg)
        both = sorted(set(cells.perturbed()) & set(fitted.training.units))
        if both:
            msg = (
                f"{len(both)} perturbations are in training and in the test, e.g. "
                f"{both[0].name!r}. Hold whole perturbations out, e.g. with "
                "`cellweave_tasks.unseen_perturbations` or `unseen_context`."
            )
            raise DataError(msg)
        rows = np.concatenate(list(cells.perturbed().values()))
        refuse_leaks(train_cells=fitted.cells, test_cells=fingerprints(values[rows]))

    def _control(
        self, adata: AnnData, cells: Cells, context: str, fitted: _Fitted
    ) -> tuple[np.ndarray | sp.csr_matrix, np.ndarray]:
        if context in fitted.controls:
            return fitted.controls[context], fitted.states[context]
        rows = cells.controls().get(context)
        if rows is None:
            msg = (
                f"No control cell of {context!r} is in training or in the data given. Contexts of "
                f"training: {one_of(fitted.controls)}. Give control cells of every context."
            )
            raise DataError(msg)
        values = aligned(adata, fitted.training.names)[rows]
        latent = self._latent(adata[rows], values, fitted.reduction)
        return values, mean_of(latent, np.arange(len(rows)))

    def _latent(
        self, adata: AnnData, values: np.ndarray | sp.csr_matrix, reduction: TruncatedSVD
    ) -> np.ndarray:
        if self.use_rep is None:
            return np.asarray(reduction.transform(values))
        return as_dense(features_of(adata, self.use_rep)).astype(np.float64)

    def _respond(self, query: Query) -> np.ndarray:
        return need_fit(self._fitted, "PerturbationTask").responses[self.method](query)

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.perturbation", self._parameters, self.seed)
