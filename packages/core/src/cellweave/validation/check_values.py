"""Findings on values: their kind, NaN and infinity, empty cells and features, the counts layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from cellweave.records.findings import Finding, Severity
from cellweave.validation.subject import Part
from cellweave.validation.values import ValueKind, ValueSummary

__all__ = ["check_values"]

_RAW = "Give the raw values: adata.X = raw counts, or adata.layers['counts'] = raw counts."
_PROCESSED = _RAW + " Where none exist: prepare with values='log1p' or 'normalised'."
# Kind → code, how bad where counts are expected, why it matters, the line that mends it.
_KINDS: dict[ValueKind, tuple[str, Severity, str, str]] = {
    ValueKind.NEARLY_COUNTS: (
        "VALUES_NEARLY_COUNTS",
        "error",
        "Models of counts fit such values wrongly and without complaint.",
        "adata.X = adata.layers['counts']  # or np.rint(adata.X) after ambient removal or RSEM",
    ),
    ValueKind.NEGATIVE: (
        "VALUES_NEGATIVE",
        "error",
        "A count or an intensity cannot be below zero.",
        _RAW,
    ),
    ValueKind.SCALED: (
        "VALUES_SCALED",
        "error",
        "Scaling per feature cannot be undone, and counts are needed.",
        _RAW,
    ),
    ValueKind.LOG1P: (
        "VALUES_LOG1P",
        "warning",
        "These are logarithms; a second logarithm and models of counts would be wrong.",
        _PROCESSED,
    ),
    ValueKind.NORMALISED: (
        "VALUES_NORMALISED",
        "warning",
        "Counts were divided by a factor per cell, so their noise is no longer that of counts.",
        _PROCESSED,
    ),
    ValueKind.PROPORTIONS: (
        "VALUES_PROPORTIONS",
        "warning",
        "These are shares of a total; models of counts need counts.",
        _RAW,
    ),
    ValueKind.CONTINUOUS: (
        "VALUES_CONTINUOUS",
        "error",
        "These are not counts, nor counts times a factor; models of counts do not apply.",
        _RAW,
    ),
}
_NOT_COUNTED = {"metab", "prot"}
_MILDER: dict[tuple[str, ValueKind], Severity | None] = {
    # Mass cytometry and imaging measure intensities, and mass spectrometry never counts.
    ("prot", ValueKind.CONTINUOUS): "note",
    ("prot", ValueKind.SCALED): "warning",
    ("metab", ValueKind.CONTINUOUS): None,
    ("metab", ValueKind.NEARLY_COUNTS): None,
    ("metab", ValueKind.NORMALISED): "note",
    ("metab", ValueKind.PROPORTIONS): "note",
    ("metab", ValueKind.LOG1P): "note",
}


def check_values(part: Part) -> Iterator[Finding]:
    """Look at the kind of raw values, at what is not finite, at what is empty."""
    if part.raw is None:
        yield Finding(
            code="VALUES_MISSING",
            severity="error",
            place=part.raw_place,
            value="there is no matrix",
            why="Nothing can be computed without values.",
            fix=_RAW,
        )
        return
    yield from _kind(part, part.raw)
    yield from _not_finite(part, part.raw, part.raw_place)
    if part.x is not None:
        yield from _not_finite(part, part.x, f"{part.place}.X")
        yield from _layer_disagrees(part, part.x, part.raw)
    if part.raw.n_nonzero:
        yield from _empty(part, part.raw)
    yield from _representations(part)


def _kind(part: Part, raw: ValueSummary) -> Iterator[Finding]:
    if raw.kind in (ValueKind.EMPTY, ValueKind.NOT_NUMERIC):
        yield Finding(
            code="VALUES_EMPTY" if raw.kind is ValueKind.EMPTY else "VALUES_NOT_NUMERIC",
            severity="error",
            place=part.raw_place,
            value="no value differs from zero"
            if raw.kind is ValueKind.EMPTY
            else f"values of type {_matrix(part).dtype}",
            why="There is nothing to compute with.",
            fix=_RAW,
        )
    elif raw.kind in _KINDS:
        code, severity, why, fix = _KINDS[raw.kind]
        chosen = _MILDER.get((part.modality or "", raw.kind), severity)
        if part.modality is None and severity != "error":
            chosen = "note"
        if chosen is not None:
            yield Finding(
                code=code,
                severity=chosen,
                place=part.raw_place,
                value=f"{raw.kind} ({_evidence(part, raw)})",
                why=why,
                fix=fix,
            )


def _evidence(part: Part, raw: ValueSummary) -> str:
    if raw.first_negative is not None:
        return (
            f"{raw.n_negative} of {raw.n_nonzero} values are negative, the first is "
            f"{_shown(part, raw.first_negative)}"
        )
    if raw.first_fractional is None:
        return f"from {raw.minimum:g} to {raw.maximum:g}"
    share = 100 * raw.n_fractional / max(raw.n_nonzero, 1)
    return (
        f"{raw.n_fractional} of {raw.n_nonzero} values ({share:.3g} %) are not whole, the first is "
        f"{_shown(part, raw.first_fractional)}; largest {raw.maximum:g}"
    )


def _not_finite(part: Part, found: ValueSummary, place: str) -> Iterator[Finding]:
    if found.n_not_finite:
        at = found.first_nan or found.first_inf
        assert at is not None
        yield Finding(
            code="VALUES_NOT_FINITE",
            severity="error",
            place=place,
            value=f"{found.n_nan} NaN and {found.n_inf} infinite values, the first at "
            f"{_cell(part, at)}",
            why="One such value spreads to every number computed from it.",
            fix="Remove the cells or features that hold them, or find the step that made them.",
        )


def _empty(part: Part, raw: ValueSummary) -> Iterator[Finding]:
    cells = np.flatnonzero(raw.row_counts == 0)
    in_place = part.modality in ("spatial", "metab")
    if len(cells):
        yield Finding(
            code="CELLS_EMPTY",
            severity="note" if in_place else "warning",
            place=part.raw_place,
            value=f"{len(cells)} of {part.adata.n_obs} cells hold no value, the first is "
            f"{str(part.adata.obs_names[cells[0]])!r}",
            why="They cannot be normalised, and land anywhere in an embedding.",
            fix=f"{part.place}[cells with any value].copy()  # `fix` does this",
            safe_fix=True,
        )
    features = np.flatnonzero(raw.column_counts == 0)
    if len(features):
        yield Finding(
            code="FEATURES_EMPTY",
            severity="note",
            place=part.raw_place,
            value=f"{len(features)} of {part.adata.n_vars} features are zero in every cell, the "
            f"first is {str(part.adata.var_names[features[0]])!r}",
            why="They carry nothing and cost time.",
            fix=f"{part.place}[:, features with any value].copy()  # `fix` does this",
            safe_fix=True,
        )


def _layer_disagrees(part: Part, x: ValueSummary, raw: ValueSummary) -> Iterator[Finding]:
    """X made from the counts has its zeros where they have theirs; equal if it is counts too."""
    if x.n_not_finite or raw.n_not_finite or x.n_negative or x.n_nonzero == 0:
        return
    same_kind = x.kind is ValueKind.COUNTS and raw.kind is ValueKind.COUNTS
    values, counts = sp.csr_matrix(part.adata.X), sp.csr_matrix(part.adata.layers["counts"])
    differs = _rows_that_differ(values, counts, values_too=same_kind)
    # A few cells may be smoothed or corrected; then most still agree.
    if np.count_nonzero(differs) > 0.01 * len(differs):
        first = int(np.flatnonzero(differs)[0])
        yield Finding(
            code="COUNTS_LAYER_DISAGREES",
            severity="warning" if x.density > 2 * raw.density else "error",
            place=f"{part.place}.layers['counts']",
            value=f"in {np.count_nonzero(differs)} of {len(differs)} cells other features are "
            f"{'counted' if same_kind else 'zero'} than in X, the first is "
            f"{str(part.adata.obs_names[first])!r}",
            why="Counts and normalised values are not of the same cells and features.",
            fix=f"Rebuild X from the counts: {part.place}.X = normalised {part.place}"
            ".layers['counts']",
        )


def _rows_that_differ(x: sp.csr_matrix, counts: sp.csr_matrix, *, values_too: bool) -> np.ndarray:
    left, right = _canonical(x), _canonical(counts)
    if not values_too:
        left.data, right.data = np.ones_like(left.data), np.ones_like(right.data)
    difference = (left - right).tocsr()
    difference.eliminate_zeros()
    return np.diff(difference.indptr) > 0


def _canonical(matrix: sp.csr_matrix) -> sp.csr_matrix:
    copy = matrix.astype(np.float64)
    copy.sum_duplicates()
    copy.eliminate_zeros()
    return copy


def _representations(part: Part) -> Iterator[Finding]:
    for key, values in part.adata.obsm.items():
        dense = values.data if hasattr(values, "indptr") else np.asarray(values)
        if dense.dtype.kind == "f" and not np.isfinite(dense).all():
            n_bad = int(np.count_nonzero(~np.isfinite(dense)))
            yield Finding(
                code="OBSM_NOT_FINITE",
                severity="error",
                place=f"{part.place}.obsm[{key!r}]",
                value=f"{n_bad} NaN or infinite values",
                why="Neighbours and distances computed from them are wrong.",
                fix=f"Compute {key!r} again, or del {part.place}.obsm[{key!r}].",
            )
    if part.modality == "spatial" and part.key and "spatial" not in part.adata.obsm:
        yield Finding(
            code="SPATIAL_COORDINATES_MISSING",
            severity="error",
            place=f"{part.place}.obsm['spatial']",
            value="there are no coordinates",
            why="Without places there are no neighbours.",
            fix=f"{part.place}.obsm['spatial'] = array of x and y, one row a cell",
        )


def _matrix(part: Part) -> Any:
    counts = part.adata.layers.get("counts")
    return part.adata.X if counts is None else counts


def _shown(part: Part, at: tuple[int, int]) -> str:
    return f"{float(_matrix(part)[at]):g} at {_cell(part, at)}"


def _cell(part: Part, at: tuple[int, int]) -> str:
    cell, feature = part.adata.obs_names[at[0]], part.adata.var_names[at[1]]
    return f"[{str(cell)!r}, {str(feature)!r}]"
