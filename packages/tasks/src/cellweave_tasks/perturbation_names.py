"""What the columns of a screen are called, and what the names in them mean.

Screens name the same things differently: the column of perturbations, control cells
(``non-targeting``, ``NT-3``, ``ctrl``, ``AAVS1``), pairs (``A+B``, ``A_B``) and guides of one gene
(``KLF1_2``, ``sgKLF1-2``). What is not named by the caller is found here, and told in the summary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError, one_of
from cellweave_tasks.features import column_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["AUTO", "Named", "context_column", "is_control", "named_conditions", "parse_condition"]

AUTO = "auto"
_COLUMNS = (
    "condition", "perturbation", "perturbations", "perturbation_name", "pert", "target_gene",
    "gene_target", "target", "gene", "guide_identity", "guide_id", "guide", "grna", "sgrna",
    "treatment", "drug", "stim", "stimulation",
)  # fmt: skip
# WT1 is a gene.
_CONTROL = re.compile(
    r"(?!wt\d)(ctrl|ctl|controls?|nt|ntc|sgnt|neg|negative|non[-_ .]?target(ing|ed)?|unperturbed|"
    r"untreated|unstimulated|vehicle|dmso|pbs|mock|scrambled?|safe[-_ ]?target(ing)?|"
    r"safe[-_ ]?harbou?r|aavs1|rosa26|intergenic|wt|wild[-_ ]?type)"
    r"([-_ .]?(ctrl|control|cell|sgrna|grna|guide|sg|g)?s?[-_ .]?\d*)?"
)
_GUIDE = re.compile(r"(?:sg)?(?P<gene>.+?)[-_.](?:sg|g|guide|grna|sgrna)?\d+")
_SEPARATORS = (";", ",", "|", "_")
_FEWEST_GUIDES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What each cell was perturbed with, sorted names; ``None`` where that is missing.

    Parameters
    ----------
    column
        The ``obs`` column.
    units
        One entry a cell; empty for control.
    controls
        What control cells are called there.
    """

    column: str
    units: list[tuple[str, ...] | None]
    controls: tuple[str, ...]


def named_conditions(adata: AnnData, column: str | None, control: str | None) -> Named:
    """Read the column of conditions; find it, and the names of control, where not given."""
    key = column if column is not None else _condition_column(adata)
    labels = column_of(adata, key)
    kinds, codes = np.unique(labels, return_inverse=True)
    parsed = _parsed(kinds.tolist(), np.asarray(adata.var_names, dtype=str), control)
    controls = tuple(k for k, p in zip(kinds.tolist(), parsed, strict=True) if p == ())
    units = [parsed[i] for i in codes.ravel()]
    return Named(column=key, units=units, controls=controls)


def context_column(adata: AnnData, key: str | None) -> str | None:
    """Return the column of contexts; ``"auto"`` takes ``cell_type`` where there is one."""
    if key != AUTO:
        return key
    return "cell_type" if "cell_type" in adata.obs else None


def is_control(name: str, control: str | None) -> bool:
    """Tell whether a name means that nothing was perturbed."""
    if control is not None:
        return name == control
    return _CONTROL.fullmatch(name.strip().lower()) is not None


def parse_condition(text: str, control: str | None) -> tuple[str, ...]:
    """Return what a condition perturbs, sorted; nothing for control."""
    parts = {part.strip() for part in text.split("+")} - {""}
    return tuple(sorted(p for p in parts if not is_control(p, control)))


def _condition_column(adata: AnnData) -> str:
    """Return the first usual column that names control cells, else the first there is."""
    there = [c for c in _COLUMNS if c in adata.obs]
    lower = {str(c).lower(): str(c) for c in adata.obs}
    there += [lower[c] for c in _COLUMNS if c in lower and lower[c] not in there]
    for column in there:
        if any(is_control(k, None) for k in np.unique(column_of(adata, column)).tolist()):
            return column
    if there:
        return there[0]
    msg = (
        "`adata.obs` has no column of perturbations such as 'condition' or 'perturbation'. It "
        f"has: {one_of(map(str, adata.obs))}. Name yours by `condition_key`."
    )
    raise DataError(msg)


def _parsed(
    kinds: list[str], genes: np.ndarray, control: str | None
) -> list[tuple[str, ...] | None]:
    known = set(genes.tolist())
    if not any("+" in kind for kind in kinds):
        known_parts = known | {k for k in kinds if not any(s in k for s in _SEPARATORS)}
        kinds = [_joined_by_plus(k, known_parts, control) for k in kinds]
    found = [None if kind == "" else parse_condition(kind, control) for kind in kinds]
    return _without_guides(found, known)


def _joined_by_plus(kind: str, known: set[str], control: str | None) -> str:
    """Rewrite ``A_B`` as ``A+B`` where both are genes, other conditions or control."""
    if kind in known or is_control(kind, control):
        return kind
    for separator in _SEPARATORS:
        parts = [p.strip() for p in kind.split(separator)]
        if len(parts) > 1 and all(p in known or is_control(p, control) for p in parts):
            return "+".join(parts)
    return kind


def _without_guides(
    units: list[tuple[str, ...] | None], known: set[str]
) -> list[tuple[str, ...] | None]:
    """Put the guides of one gene together: of a perturbation in training none is in the test."""
    names = {p for unit in units if unit for p in unit}
    target = {n: _gene_of(n, known) for n in names}
    guides = [n for n in names if target[n] != n]
    if len(guides) < _FEWEST_GUIDES * len(names):
        return units
    return [None if u is None else tuple(sorted({target[p] for p in u})) for u in units]


def _gene_of(name: str, known: Iterable[str]) -> str:
    found = _GUIDE.fullmatch(name)
    if name in known or found is None or found["gene"] not in known:
        return name
    return found["gene"]
