r"""How alike a perturbation is to those of training, and how scores fall as that falls.

A perturbation is described by the principal loadings of its genes in the training cells; likeness
is the largest cosine to a training perturbation. PertEval-scFM (Wenteler et al. 2024) asks what is
left of a model when whatever is like the test is taken out of training: a sweep over thresholds
:math:`s`, and the area under the metric, :math:`\int m(s)\,ds` (AUSPC).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.records import Score, Scores
from cellweave_tasks.perturbation_data import Unit, cells_of
from cellweave_tasks.perturbation_graph import correlations

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_tasks.perturbation import PerturbationTask

__all__ = ["likeness", "likeness_groups", "similarity_sweep"]

_FEWEST = 6
_SUMMARISED = ("pearson_delta", "mse")


def likeness(
    units: Sequence[Unit], training: Sequence[Unit], names: np.ndarray, loadings: np.ndarray
) -> np.ndarray:
    """Return for each unit the largest cosine to a training unit; NaN for unknown genes."""
    at = {str(name): i for i, name in enumerate(names)}
    centred = loadings - loadings.mean(axis=0)
    left, right = (_described(u, at, centred) for u in (units, training))
    right = right[np.abs(right).sum(axis=1) > 0]
    found = np.full(len(units), np.nan)
    known = np.abs(left).sum(axis=1) > 0
    if len(right):
        found[known] = (left[known] @ right.T).max(axis=1)
    return found


def likeness_groups(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks of the thirds least to most like training; none where units are few or equal."""
    known = values[np.isfinite(values)]
    if len(known) < _FEWEST or np.ptp(known) < 1e-6:
        return {}
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    thirds = {"unlike training": values <= low, "like training": values > high}
    thirds["between"] = np.isfinite(values) & ~thirds["unlike training"] & ~thirds["like training"]
    return {name: rows for name, rows in thirds.items() if rows.any()}


def similarity_sweep(
    make: Callable[[], PerturbationTask],
    train: AnnData,
    test: AnnData,
    *,
    drop: Sequence[float] = (0.0, 0.2, 0.4, 0.6),
) -> Scores:
    """Score on the same test after taking out the training perturbations that are most like it.

    Parameters
    ----------
    make
        Makes the task.
    train, test
        As for ``fit`` and ``evaluate``; control cells of ``train`` always stay.
    drop
        Shares of the training perturbations taken out, the most like first, ascending from 0.

    Returns
    -------
    The scores at each share as groups ``"without 20 %"``, and ``auspc_…``: the area under the
    metric over the shares, divided by their range.
    """
    task = make()
    cells = cells_of(train, task.condition_key, task.control, task.context_key)
    order = _most_like_first(task, cells.perturbed(), train, test)
    items: list[Score] = []
    for share in drop:
        out = order[: round(share * len(order))]
        kept = np.ones(train.n_obs, dtype=bool)
        kept[[row for unit in out for row in cells.rows[unit]]] = False
        scores = make().fit(train[kept]).evaluate(test)
        items += [
            replace(s, group=f"without {100 * share:.0f} %")
            for s in scores.items
            if not s.group and s.metric in _SUMMARISED
        ]
    return Scores(
        items=(*items, *_areas(items, np.asarray(drop, dtype=float))), provenance=scores.provenance
    )


def _most_like_first(
    task: PerturbationTask, training: dict[Unit, np.ndarray], train: AnnData, test: AnnData
) -> list[Unit]:
    asked = cells_of(test, task.condition_key, task.control, task.context_key).perturbed()
    if len(training) < 3 or not asked:
        msg = (
            f"Training has {len(training)} perturbations and the test {len(asked)}. A sweep needs "
            "three and one."
        )
        raise DataError(msg)
    genes = sorted({p for u in (*training, *asked) for p in u.perturbations})
    names = np.asarray(train.var_names, dtype=str)
    columns = np.flatnonzero(np.isin(names, genes))
    if not len(columns):
        msg = f"No perturbed gene, e.g. {genes[0]!r}, was measured: likeness cannot be told."
        raise DataError(msg)
    vectors = correlations(train[:, columns].X) + np.eye(len(columns))
    found = likeness(list(training), list(asked), names[columns], vectors)
    order = np.argsort(-np.nan_to_num(found, nan=-2.0), kind="stable")
    return [list(training)[i] for i in order]


def _areas(items: list[Score], drop: np.ndarray) -> list[Score]:
    found = []
    for metric, method in dict.fromkeys((s.metric, s.method) for s in items):
        own = [s for s in items if (s.metric, s.method) == (metric, method)]
        values = np.array([np.nan if s.value is None else s.value for s in own])
        area = float(np.trapezoid(values, drop) / np.ptp(drop)) if len(drop) > 1 else values[0]
        found.append(replace(own[0], metric=f"auspc_{metric}", group="", value=area))
    return found


def _described(units: Sequence[Unit], at: dict[str, int], vectors: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(units), vectors.shape[1]))
    for i, unit in enumerate(units):
        for p in unit.perturbations:
            if p in at:
                rows[i] += vectors[at[p]]
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
