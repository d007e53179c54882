"""Score a fitted perturbation task, unit by unit and in groups, beside its baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError
from cellweave.records import Score
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import aligned, as_dense, fingerprints
from cellweave_tasks.perturbation_data import Cells, Unit
from cellweave_tasks.perturbation_fit import Fitted
from cellweave_tasks.perturbation_inputs import kind_of, some_rows
from cellweave_tasks.perturbation_models import Query
from cellweave_tasks.perturbation_scores import (
    DIRECTIONS,
    e_distance,
    ranks_of_own,
    response_scores,
    top_genes,
)
from cellweave_tasks.perturbation_similarity import likeness, likeness_groups
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Truth", "headline_of", "refuse_known", "scores_in_groups", "truths_of", "unit_scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One unit of the test: its cells, the true change and top genes, and what is asked."""

    cells: np.ndarray
    change: np.ndarray
    top: np.ndarray
    query: Query

    @property
    def unit(self) -> Unit:
        """Give what was perturbed, and where."""
        return self.query.unit


def truths_of(adata: AnnData, cells: Cells, fitted: Fitted) -> list[Truth]:
    """Return what was measured of every unit of the test."""
    values = aligned(adata, fitted.training.names)
    return [
        _truth(as_dense(values[rows]).astype(np.float64), fitted.query(adata, cells, unit))
        for unit, rows in cells.perturbed().items()
    ]


def _truth(own: np.ndarray, query: Query) -> Truth:
    control = as_dense(query.control).astype(np.float64)
    change = own.mean(axis=0) - control.mean(axis=0)
    return Truth(cells=own, change=change, top=top_genes(own, control), query=query)


def refuse_known(adata: AnnData, cells: Cells, fitted: Fitted) -> None:
    """Refuse units, and cells, that are in training and in the test."""
    if not cells.perturbed():
        msg = "All cells are control cells: there is no response to score."
        raise DataError(msg)
    both = sorted(set(cells.perturbed()) & set(fitted.training.units))
    if both:
        msg = (
            f"{len(both)} perturbations are in training and in the test, e.g. "
            f"{both[0].name!r}. Hold whole perturbations out, e.g. with "
            "`cellweave_tasks.unseen_perturbations` or `unseen_context`, on the command line "
            "--split perturbations or --split context:NAME."
        )
        raise DataError(msg)
    rows = np.concatenate(list(cells.perturbed().values()))
    values = aligned(adata, fitted.training.names)[rows]
    refuse_leaks(train_cells=fitted.cells, test_cells=fingerprints(values))


def unit_scores(
    truths: list[Truth], changes: np.ndarray, fitted: Fitted, *, seed: int
) -> dict[str, np.ndarray]:
    """Return every metric, one number a unit; NaN where it cannot be told."""
    rows = [response_scores(c, t.change, t.top) for c, t in zip(changes, truths, strict=True)]
    table = {metric: np.array([row[metric] for row in rows]) for metric in rows[0]}
    table["e_distance"] = np.array(
        [_e_distance(c, t, fitted, seed) for c, t in zip(changes, truths, strict=True)]
    )
    ranks = np.full(len(truths), np.nan)
    contexts = np.array([t.unit.context for t in truths])
    for context in np.unique(contexts):
        here = np.flatnonzero(contexts == context)
        if len(here) > 1:
            ranks[here] = ranks_of_own(changes[here], np.stack([truths[i].change for i in here]))
    table["rank_of_own"] = ranks
    return table


def _e_distance(change: np.ndarray, truth: Truth, fitted: Fitted, seed: int) -> float:
    rng, reduction = np.random.default_rng(seed), fitted.representation.reduction
    start = reduction.transform(some_rows(truth.query.control, rng))
    goal = reduction.transform(some_rows(truth.cells, rng))
    return e_distance(start + change @ reduction.components_.T, goal)


def scores_in_groups(
    method: str,
    truths: list[Truth],
    table: Mapping[str, np.ndarray],
    fitted: Fitted,
    *,
    seed: int,
) -> list[Score]:
    """Return means over all units, by what is new, by likeness to training, and each unit."""
    groups = _groups(truths, fitted)
    return [
        _mean_score(metric, values[rows], method=method, group=group, seed=seed)
        for metric, values in table.items()
        for group, rows in groups.items()
    ]


def _groups(truths: list[Truth], fitted: Fitted) -> dict[str, np.ndarray]:
    own = fitted.training
    kinds = np.array([kind_of(t.unit, own.units) for t in truths])
    several = sorted(set(kinds.tolist())) if len(set(kinds.tolist())) > 1 else []
    alike = likeness([t.unit for t in truths], own.units, own.names, own.loadings)
    return {
        "": np.ones(len(truths), dtype=bool),
        **{kind: kinds == kind for kind in several},
        **likeness_groups(alike),
        **{f"unit:{t.unit.name}": np.arange(len(truths)) == i for i, t in enumerate(truths)},
    }


def _mean_score(metric: str, values: np.ndarray, *, method: str, group: str, seed: int) -> Score:
    up, best, chance = DIRECTIONS[metric]
    known = values[np.isfinite(values)]
    return Score(
        metric=metric,
        value=float(known.mean()) if len(known) else None,
        method=method,
        group=group,
        higher_is_better=up,
        best=best,
        chance=chance,
        seed=seed,
        note="" if len(known) else "needs two test perturbations in one context",
    )


def headline_of(
    per_unit: Mapping[str, Mapping[str, np.ndarray]], name: str, *, is_mean: bool, seed: int
) -> dict[str, Any]:
    """Say first whether the model beats the mean of training perturbations."""
    metric = "pearson_delta"
    if is_mean:
        return {"headline": "This is the mean of training perturbations itself."}
    gap = paired_difference(per_unit[name][metric], per_unit["mean"][metric], seed=seed)
    text = difference_sentence(gap, name, "the mean of training perturbations", metric)
    return {"headline": text, "beats_mean": gap.value > 0, **gap.to_dict()}
