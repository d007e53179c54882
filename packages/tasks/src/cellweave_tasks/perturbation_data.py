"""Perturbation data in the form that GEARS-like sets share, as one mean change per condition.

``obs[condition_key]`` holds ``"ctrl"``, ``"A+ctrl"``, ``"ctrl+A"``, ``"A+B"`` or a plain ``"A"``.
A *unit* is what is predicted: the genes (or agents) perturbed, in one context (a cell type).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of
from cellweave.kernels.columns import column_means
from cellweave_tasks.features import column_of

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
    """The rows of each unit."""

    rows: Mapping[Unit, np.ndarray]

    def controls(self) -> dict[str, np.ndarray]:
        """Return the rows of control cells by context."""
        return {u.context: r for u, r in self.rows.items() if u.is_control}

    def perturbed(self) -> dict[Unit, np.ndarray]:
        """Return the rows of perturbed cells by unit, in a fixed order."""
        return {u: self.rows[u] for u in sorted(self.rows) if not u.is_control}


def parse_condition(text: str, control: str) -> tuple[str, ...]:
    """Return what a condition perturbs, sorted; nothing for control."""
    parts = {part.strip() for part in text.split("+")} - {control, ""}
    return tuple(sorted(parts))


def _contexts_of(adata: AnnData, context_key: str | None) -> np.ndarray:
    if context_key is None:
        return np.full(adata.n_obs, ALL)
    try:
        return column_of(adata, context_key)
    except DataError as error:
        msg = f"{error} For cells of one type or line set context_key to null (None in Python)."
        raise DataError(msg) from None


def cells_of(adata: AnnData, condition_key: str, control: str, context_key: str | None) -> Cells:
    """Sort cells into units."""
    conditions = column_of(adata, condition_key)
    contexts = _contexts_of(adata, context_key)
    missing = int(((conditions == "") | (contexts == "")).sum())
    if missing:
        msg = (
            f"{missing} of {adata.n_obs} cells lack a condition or context in "
            f"obs[{condition_key!r}], obs[{context_key!r}]. Drop them first."
        )
        raise DataError(msg)
    keys, code = np.unique(np.stack([conditions, contexts], axis=1), axis=0, return_inverse=True)
    rows: dict[Unit, np.ndarray] = {}
    for i, (condition, context) in enumerate(keys.tolist()):
        unit = Unit(parse_condition(condition, control), context)
        here = np.flatnonzero(code.ravel() == i)
        rows[unit] = np.sort(np.concatenate([rows[unit], here])) if unit in rows else here
    return Cells(rows=rows)


def require_control(cells: Cells, control: str) -> None:
    """Refuse training data without control cells or without perturbed ones."""
    if not cells.controls() or not cells.perturbed():
        found = {"+".join(u.perturbations) or control for u in cells.rows}
        lacks = "perturbed" if cells.controls() else "control"
        msg = (
            f"There are no {lacks} cells; control is called {control!r}.{closest(control, found)} "
            f"Conditions: {one_of(found)}. Set `control`, and keep both kinds in training."
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
