"""Perturbation data in the form that GEARS-like sets share, as one mean change per condition.

``obs[condition_key]`` holds ``"ctrl"``, ``"A+ctrl"``, ``"ctrl+A"``, ``"A+B"`` or a plain ``"A"``,
or what :mod:`cellweave_tasks.perturbation_names` understands.
A *unit* is what is predicted: the genes (or agents) perturbed, in one context (a cell type).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of
from cellweave.kernels.columns import column_means
from cellweave_tasks.features import column_of
from cellweave_tasks.perturbation_names import context_column, named_conditions, parse_condition

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Cells", "Unit", "cells_of", "mean_of", "noise_of", "parse_condition", "require_control"]

ALL = "all"


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """What was perturbed, sorted, and in which context; nothing perturbed is control."""

    perturbations: tuple[str, ...]
    context: str = ALL

    @property
    def is_control(self) -> bool:
        """Tell whether nothing was perturbed."""
        return not self.perturbations

    @property
    def name(self) -> str:
        """Name the unit for tables."""
        what = "+".join(self.perturbations) or "control"
        return what if self.context == ALL else f"{what} | {self.context}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The rows of each unit, and the columns and names of control that this was read from."""

    rows: Mapping[Unit, np.ndarray]
    columns: Mapping[str, Any] = field(default_factory=dict)

    def controls(self) -> dict[str, np.ndarray]:
        """Return the rows of control cells by context."""
        return {u.context: r for u, r in self.rows.items() if u.is_control}

    def perturbed(self) -> dict[Unit, np.ndarray]:
        """Return the rows of perturbed cells by unit, in a fixed order."""
        return {u: self.rows[u] for u in sorted(self.rows) if not u.is_control}


def cells_of(
    adata: AnnData, condition_key: str | None, control: str | None, context_key: str | None
) -> Cells:
    """Sort cells into units."""
    named = named_conditions(adata, condition_key, control)
    column = context_column(adata, context_key)
    contexts = np.full(adata.n_obs, ALL) if column is None else _contexts_of(adata, column)
    missing = sum(u is None for u in named.units) + int((contexts == "").sum())
    if missing:
        msg = (
            f"{missing} of {adata.n_obs} cells lack a condition or context in "
            f"obs[{named.column!r}], obs[{column!r}]. Drop them first."
        )
        raise DataError(msg)
    rows: dict[Unit, list[int]] = {}
    for i, (what, context) in enumerate(zip(named.units, contexts.tolist(), strict=True)):
        rows.setdefault(Unit(what or (), context), []).append(i)
    return Cells(
        rows={unit: np.array(rows[unit]) for unit in sorted(rows)},
        columns={"condition": named.column, "control": list(named.controls), "context": column},
    )


def _contexts_of(adata: AnnData, column: str) -> np.ndarray:
    try:
        return column_of(adata, column)
    except DataError as error:
        msg = f"{error} For cells of one type or line set context_key to null (None in Python)."
        raise DataError(msg) from None


def require_control(cells: Cells, control: str | None) -> None:
    """Refuse training data without control cells or without perturbed ones."""
    if not cells.controls() or not cells.perturbed():
        found = {"+".join(u.perturbations) or "control" for u in cells.rows}
        lacks = "perturbed" if cells.controls() else "control"
        named = "not named, and none of the usual names" if control is None else repr(control)
        msg = (
            f"There are no {lacks} cells; control is called {named}."
            f"{closest(control or 'control', found)} Conditions in "
            f"obs[{cells.columns.get('condition', 'condition')!r}]: {one_of(found)}. Set `control` "
            "(and `condition_key`, if that column is another), and keep both kinds in training."
        )
        raise DataError(msg)


def mean_of(values: np.ndarray | sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Return the mean of some rows in double precision."""
    return column_means(values[rows])


def noise_of(values: np.ndarray | sp.csr_matrix, rows: np.ndarray) -> float:
    """Return the sampling variance of the mean of some rows, mean over features."""
    some = values[rows]
    squares: Any = some.multiply(some) if isinstance(some, sp.csr_matrix) else np.square(some)
    variance = column_means(squares) - mean_of(values, rows) ** 2
    return float(np.maximum(variance, 0.0).mean() / max(len(rows) - 1, 1))
