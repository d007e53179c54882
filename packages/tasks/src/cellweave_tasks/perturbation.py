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

from cellweave.errors import DataError, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.features import aligned, as_dense
from cellweave_tasks.perturbation_data import ALL, Cells, Unit, cells_of, mean_of, parse_condition
from cellweave_tasks.perturbation_evaluation import (
    headline_of,
    refuse_known,
    scores_in_groups,
    truths_of,
    unit_scores,
)
from cellweave_tasks.perturbation_fit import Fitted, fitted_on
from cellweave_tasks.perturbation_generator import GeneratorSettings, generator_response
from cellweave_tasks.perturbation_inputs import require_method
from cellweave_tasks.perturbation_models import (
    BASELINES,
    Query,
    Response,
    Training,
    make_response,
)
from cellweave_tasks.perturbation_names import AUTO, context_column, named_conditions
from cellweave_tasks.perturbation_scores import pearson
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.token_models import model_name

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Change", "PerturbationTask"]


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
        ``obs`` column: ``"ctrl"``, ``"A+ctrl"``, ``"A+B"`` or plain names. When not given,
        ``condition``, ``perturbation`` or another usual name.
    control
        What control is called; when not given, any usual name, numbered or not.
    context_key
        ``obs`` column of cell types or lines; ``None`` for data of one. ``"auto"`` takes
        ``cell_type`` where there is one.
    method
        ``"auto"`` (``"context_shift"`` for what training saw in another context, ``"graph"`` for
        what it never saw), ``"latent_shift"``, ``"linear"``, ``"probe"``, ``"generator"`` (scGPT's
        network; needs cellweave-scgpt), or one of the baselines.
    n_components
        Number of principal axes.
    gene_sets
        GMT file: genes of common sets respond alike (``"graph"``; co-expression is used always).
    gene_rep
        Embedding of genes that ``"probe"``, ``"linear"`` and ``"generator"`` read: a ``varm`` key,
        or an ``.npz`` that ``Embedding.save`` wrote; principal axes when not given.
    model
        Folder of published weights in scGPT's layout (or a loaded model) that ``"generator"``
        starts from; from scratch when not given.
    steps, device
        How long and where ``"generator"`` trains; 500 steps on the CPU when not given.
    seed
        Of what is random.

    Examples
    --------
    >>> task = PerturbationTask(context_key="cell_type", control="control")
    >>> task.name
    'auto on X'
    """

    default_split = "perturbations"

    def __init__(
        self,
        *,
        use_rep: str | None = None,
        condition_key: str | None = None,
        control: str | None = None,
        context_key: str | None = AUTO,
        method: str = "auto",
        n_components: int = 50,
        gene_sets: str | None = None,
        gene_rep: str | None = None,
        model: Any = None,
        steps: int | None = None,
        device: str | None = None,
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        own = {"gene_sets": gene_sets, "gene_rep": gene_rep}
        require_method(method, **own, model=model, steps=steps, device=device)
        self._parameters["model"] = None if model is None else model_name(model)
        self.use_rep, self.condition_key, self.control = use_rep, condition_key, control
        self.context_key, self.method = context_key, method
        self.n_components, self.seed = n_components, seed
        self.gene_sets, self.gene_rep = gene_sets, gene_rep
        self._generator = GeneratorSettings(
            model=model, steps=steps or 500, device=device or "cpu", seed=seed
        )
        self._fitted: Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'X'}"

    def needs_labels(self, adata: AnnData) -> tuple[str, ...]:
        """Name the columns without which a cell cannot be used."""
        column = named_conditions(adata, self.condition_key, self.control).column
        context = context_column(adata, self.context_key)
        return (column,) if context is None else (column, context)

    def fit(self, adata: AnnData) -> Self:
        """Learn from control and perturbed cells; control cells of a context to predict help."""
        self._fitted = fitted_on(
            adata,
            self._cells(adata),
            control=self.control,
            use_rep=self.use_rep,
            n_components=self.n_components,
            gene_sets=self.gene_sets,
            gene_rep=self.gene_rep,
            with_graphs=self.method in ("graph", "auto"),
            make=self._responses,
            seed=self.seed,
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict the mean values of each unit that ``adata`` names, one row a unit.

        Cells' own values are used for controls of contexts that training lacks, and never else.
        """
        fitted, cells = self._need(), self._cells(adata)
        if not cells.perturbed():
            msg = "All cells are control cells: there is no perturbation to predict."
            raise DataError(msg)
        rows = []
        for unit in cells.perturbed():
            query = fitted.query(adata, cells, unit)
            start = mean_of(query.control, np.arange(query.control.shape[0]))
            rows.append(start + self._respond(query))
        return Prediction(
            names=np.array([u.name for u in cells.perturbed()]),
            values=np.maximum(np.stack(rows), 0.0).astype(np.float32),
            columns=fitted.training.names,
            provenance=self._provenance(),
        )

    def perturb(self, adata: AnnData, *, condition: str) -> Prediction:
        """Predict each control cell of ``adata`` under a condition, as values of every feature."""
        fitted = self._need()
        values = as_dense(aligned(adata, fitted.training.names)).astype(np.float32)
        latent = fitted.representation(adata, values)
        what = parse_condition(condition, self.control)
        moved = values.copy()
        for context, rows in self._cells(adata).controls().items():
            state = mean_of(latent, rows)
            query = Query(unit=Unit(what, context), state=state, control=values[rows])
            # A network tells the cells apart, the rest move all cells of a context alike.
            each = getattr(fitted.responses[self.method], "of_cells", self._respond)
            moved[rows] += each(query)
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
        fitted = self._need()
        if context not in fitted.controls:
            msg = f"Training has no context {context!r}. It has: {one_of(fitted.controls)}."
            raise DataError(msg)
        values = aligned(goal, fitted.training.names)
        start = fitted.controls[context]
        wanted = mean_of(values, np.arange(goal.n_obs)) - mean_of(start, np.arange(start.shape[0]))
        known = sorted({u.perturbations for u in fitted.training.units})
        units = [Unit(p, context) for p in known]
        agree = np.array([pearson(self._respond(fitted.known(u)), wanted) for u in units])
        best = np.argsort(-agree, kind="stable")[:k]
        return Prediction(
            names=np.array(["+".join(units[i].perturbations) for i in best]),
            values=agree[best].astype(np.float32),
            provenance=self._provenance(),
        )

    def changes(self, adata: AnnData) -> list[Change]:
        """Return the predicted beside the measured change of every unit in ``adata``."""
        truths = truths_of(adata, self._cells(adata), self._need())
        return [
            Change(name=t.unit.name, predicted=self._respond(t.query), true=t.change, top=t.top)
            for t in truths
        ]

    def evaluate(self, adata: AnnData) -> Scores:
        """Score against perturbed cells, per unit and as means, beside the four baselines."""
        fitted, cells = self._need(), self._cells(adata)
        refuse_known(adata, cells, fitted)
        truths = truths_of(adata, cells, fitted)
        items: list[Score] = []
        per_unit: dict[str, dict[str, np.ndarray]] = {}
        for model in dict.fromkeys((self.method, *BASELINES)):
            shown = self.name if model == self.method else model
            changes = np.stack([fitted.responses[model](t.query) for t in truths])
            per_unit[shown] = unit_scores(truths, changes, fitted, seed=self.seed)
            items += scores_in_groups(shown, truths, per_unit[shown], fitted, seed=self.seed)
        summary = headline_of(per_unit, self.name, is_mean=self.method == "mean", seed=self.seed)
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={**summary, "columns": dict(cells.columns)},
        )

    def _responses(self, training: Training) -> Mapping[str, Response]:
        made = {m: make_response(m, training) for m in BASELINES}
        if self.method == "generator":
            own = generator_response(training, self._generator, described=self.gene_rep is not None)
            return {"generator": own, **made}
        return {self.method: make_response(self.method, training), **made}

    def _cells(self, adata: AnnData) -> Cells:
        return cells_of(adata, self.condition_key, self.control, self.context_key)

    def _need(self) -> Fitted:
        return need_fit(self._fitted, "PerturbationTask")

    def _respond(self, query: Query) -> np.ndarray:
        return self._need().responses[self.method](query)

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.perturbation", self._parameters, self.seed)
