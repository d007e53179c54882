"""Findings on names: duplicates, blanks, versions, mixtures, and features under the wrong key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from cellweave.records.findings import Finding, Severity
from cellweave.validation.names import strip_versions
from cellweave.validation.subject import Part

__all__ = ["check_names", "check_names_between"]

_MIXED = 0.05
_BLANK = {"", "nan", "none", "na", "<na>", "null"}


def check_names(part: Part, *, alone: bool) -> Iterator[Finding]:
    """Look at the names of one modality; ``alone`` when no other shares its cells."""
    for axis, names in (("obs", part.adata.obs_names), ("var", part.adata.var_names)):
        yield from _duplicates(part, axis, names, safe=axis == "var" or alone)
        yield from _blanks(part, axis, names)
        yield from _padded(part, axis, names)
    if part.names.n == 0:
        return
    if part.modality in ("rna", "spatial", "atac") or part.speaks_for == "rna":
        yield from _identifiers(part)
    yield from _swapped(part)


def check_names_between(parts: Sequence[Part]) -> Iterator[Finding]:
    """Compare kinds of names and species between modalities of gene expression."""
    genes = [p for p in parts if p.modality in ("rna", "spatial") and p.names.n]
    for first, second in pairwise(genes):
        if first.names.id_kind != second.names.id_kind:
            yield _between(first, second, "IDS_DIFFER", "id_kind", "warning")
        known = first.names.species and second.names.species
        if known and first.names.species != second.names.species:
            yield _between(first, second, "SPECIES_DIFFER", "species", "error")


def _between(a: Part, b: Part, code: str, field: str, severity: Severity) -> Finding:
    left, right = getattr(a.names, field), getattr(b.names, field)
    return Finding(
        code=code,
        severity=severity,
        place=f"{a.place}.var_names, {b.place}.var_names",
        value=f"{left} and {right}",
        why="Features that are the same gene are not recognised as such.",
        fix=f"Bring {b.place}.var_names to {left} by a table of orthologues or identifiers.",
    )


def _duplicates(part: Part, axis: str, names: pd.Index, *, safe: bool) -> Iterator[Finding]:
    again = names.duplicated()
    if again.any():
        yield Finding(
            code=f"{axis.upper()}_NAMES_DUPLICATE",
            severity="error",
            place=f"{part.place}.{axis}_names",
            value=f"{int(again.sum())} names occur again, the first is {str(names[again][0])!r}",
            why="A name must point to one row, or values are taken from the wrong one.",
            fix=f"{part.place}.{axis}_names_make_unique()",
            safe_fix=safe,
        )


def _blanks(part: Part, axis: str, names: pd.Index) -> Iterator[Finding]:
    text = pd.Series(names.astype(str)).str.strip().str.lower()
    blank = np.flatnonzero(text.isin(_BLANK) | pd.isna(pd.Series(names)))
    if len(blank):
        yield Finding(
            code=f"{axis.upper()}_NAMES_EMPTY",
            severity="error",
            place=f"{part.place}.{axis}_names",
            value=f"{len(blank)} names are empty, the first is {str(names[blank[0]])!r} at "
            f"position {blank[0]}",
            why="A nameless row cannot be looked up or matched.",
            fix=f"Drop those rows, or name them: {part.place}.{axis}_names = …",
        )


def _padded(part: Part, axis: str, names: pd.Index) -> Iterator[Finding]:
    text = pd.Series(names.astype(str))
    stripped = text.str.strip()
    padded = np.flatnonzero((text != stripped) & (stripped != ""))
    if len(padded):
        yield Finding(
            code=f"{axis.upper()}_NAMES_PADDED",
            severity="warning",
            place=f"{part.place}.{axis}_names",
            value=f"{len(padded)} names have blanks around them, the first is "
            f"{str(names[padded[0]])!r}",
            why="They match nothing that is spelt without.",
            fix=f"{part.place}.{axis}_names = {part.place}.{axis}_names.str.strip()",
            safe_fix=bool(stripped.is_unique),
        )


def _identifiers(part: Part) -> Iterator[Finding]:
    names, place = part.names, f"{part.place}.var_names"
    if names.versioned:
        bare = strip_versions(part.adata.var_names)
        yield Finding(
            code="IDS_VERSIONED",
            severity="warning",
            place=place,
            value=f"{names.versioned} of {names.n} ids end in a version, such as "
            f"{_first_changed(part.adata.var_names, bare)!r}",
            why="Ids with a version match no vocabulary and no annotation of another release.",
            fix=f"{place} = {place}.str.replace(r'\\.\\d+$', '', regex=True)",
            safe_fix=bool(bare.is_unique),
        )
    if part.modality != "atac":
        yield from _mixtures(part, place)
    if names.share(names.numbers) > 0.5:
        yield Finding(
            code="IDS_NUMERIC",
            severity="warning",
            place=place,
            value=f"{names.numbers} of {names.n} names are bare numbers, such as "
            f"{str(part.adata.var_names[0])!r}",
            why="The names were probably lost; numbers match no gene.",
            fix=f"{place} = the column of var that holds symbols or Ensembl ids",
        )
    if names.excel_dates:
        yield Finding(
            code="SYMBOLS_AS_DATES",
            severity="note",
            place=place,
            value=f"{names.excel_dates} symbols were turned into dates",
            why="A spreadsheet changed MARCH1 to 1-Mar; these genes match nothing.",
            fix="Read the original table without a spreadsheet.",
        )


def _mixtures(part: Part, place: str) -> Iterator[Finding]:
    names = part.names
    both = {
        "IDS_MIXED": ("Ensembl ids", names.ids, "symbols", names.symbols),
        "SPECIES_MIXED": (
            "human",
            names.human_ids + names.human_prefixed + names.human_symbols,
            "mouse",
            names.mouse_ids + names.mouse_prefixed + names.mouse_symbols,
        ),
    }
    for code, (left, n_left, right, n_right) in both.items():
        fewer = min(n_left, n_right)
        if fewer < 1 or (code == "SPECIES_MIXED" and fewer < max(3, 0.02 * names.n)):
            continue
        yield Finding(
            code=code,
            severity="warning" if names.share(fewer) >= _MIXED else "note",
            place=place,
            value=f"{n_left} {left} and {n_right} {right} names among {names.n}",
            why="One of the two will match nothing: vocabularies and links know one spelling.",
            fix=f"Bring {place} to one kind, or keep {part.place}[:, of one kind].",
        )


def _swapped(part: Part) -> Iterator[Finding]:
    expected = "rna" if part.modality == "spatial" else part.modality
    if expected is None or part.speaks_for in (None, expected):
        return
    yield Finding(
        code="MODALITY_SWAPPED",
        severity="error",
        place=part.place,
        value=f"features such as {str(part.adata.var_names[0])!r} ({part.names.id_kind}) speak for "
        f"{part.speaks_for!r}, not for {part.modality!r}",
        why="Every step chooses its method by the key of the modality.",
        fix=f"Read again with names: cellweave.read('{part.speaks_for}=file.h5ad', …)",
    )


def _first_changed(before: pd.Index, after: pd.Index) -> str:
    changed = np.flatnonzero(before.astype(str).to_numpy() != after.to_numpy())
    return str(before[changed[0]]) if len(changed) else str(before[0])
