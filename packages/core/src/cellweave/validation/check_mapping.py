"""Findings on a MuData as a whole: whether its own tables agree with those of its modalities."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from cellweave.records.findings import Finding
from cellweave.validation.subject import Part, Subject

__all__ = ["check_mapping"]


def check_mapping(subject: Subject) -> Iterator[Finding]:
    """Compare ``mdata.obs`` with the ``obs`` of modalities, and these with each other."""
    mdata = subject.mdata
    if mdata is None:
        return
    for part in subject.parts:
        yield from _map_agrees(mdata, part)
        yield from _columns_agree(mdata, part)
    for first, second in combinations(subject.parts, 2):
        yield from _pairs_agree(first, second)
        yield from _other_order(first, second)


def _map_agrees(mdata: Any, part: Part) -> Iterator[Finding]:
    """``obsmap`` holds, a row of mdata, the row of the modality plus one; 0 for none."""
    mapped = np.asarray(mdata.obsmap.get(part.key, ())).ravel().astype(np.int64)
    names = part.adata.obs_names.to_numpy()
    if len(mapped) != mdata.n_obs or not len(names):
        return
    at = np.flatnonzero(mapped > 0)
    inside = mapped[at] <= len(names)
    wrong = np.ones(len(at), dtype=bool)
    wrong[inside] = mdata.obs_names.to_numpy()[at[inside]] != names[mapped[at[inside]] - 1]
    if wrong.any():
        first = at[np.flatnonzero(wrong)[0]]
        yield _finding(
            f"mdata.obsmap[{part.key!r}]",
            f"{int(wrong.sum())} cells point to a row of another name, the first is "
            f"{str(mdata.obs_names[first])!r}",
            "mdata.update()",
        )


def _columns_agree(mdata: Any, part: Part) -> Iterator[Finding]:
    for column in part.adata.obs.columns:
        for pulled in (f"{part.key}:{column}", str(column)):
            if pulled not in mdata.obs:
                continue
            theirs, ours = _by_name(mdata.obs[pulled], part.adata.obs[column])
            different = _differences(theirs, ours)
            own_column = pulled == f"{part.key}:{column}"
            if different.any() and (own_column or _same_values(theirs, ours)):
                yield _finding(
                    f"mdata.obs[{pulled!r}]",
                    _told(theirs, ours, different, f"{part.place}.obs[{str(column)!r}]"),
                    f"mdata.obs[{pulled!r}] = {part.place}.obs[{str(column)!r}]"
                    ".reindex(mdata.obs_names)",
                )


def _pairs_agree(a: Part, b: Part) -> Iterator[Finding]:
    """Find one annotation of the same cells that was shuffled in one of two modalities."""
    for column in a.adata.obs.columns.intersection(b.adata.obs.columns):
        left, right = _by_name(a.adata.obs[column], b.adata.obs[column])
        different = _differences(left, right)
        if np.count_nonzero(different) > 0.05 * len(different) and _same_values(left, right):
            yield _finding(
                f"{b.place}.obs[{str(column)!r}]",
                _told(right, left, different, f"{a.place}.obs[{str(column)!r}]"),
                f"{b.place}.obs[{str(column)!r}] = {a.place}.obs[{str(column)!r}]"
                f".reindex({b.place}.obs_names)",
            )


def _other_order(a: Part, b: Part) -> Iterator[Finding]:
    left, right = a.adata.obs_names, b.adata.obs_names
    if len(left) == len(right) and left.is_unique and right.is_unique and not left.equals(right):
        if len(left.intersection(right)) < len(left):
            return
        yield Finding(
            code="CELLS_IN_OTHER_ORDER",
            severity="note",
            place=f"{a.place}.obs_names, {b.place}.obs_names",
            value="the same cells in another order",
            why="Arrays of one must not be put beside arrays of the other without their names.",
            fix=f"Nothing to mend; to align: {b.place}[{a.place}.obs_names].copy()",
        )


def _by_name(left: pd.Series, right: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Give both columns for the cells they share, where names are unique."""
    if not (left.index.is_unique and right.index.is_unique):
        return left.iloc[:0], right.iloc[:0]
    shared = left.index.intersection(right.index)
    return left.reindex(shared), right.reindex(shared)


def _differences(left: pd.Series, right: pd.Series) -> np.ndarray:
    if left.dtype.kind in "fiub" and right.dtype.kind in "fiub":
        same = np.isclose(left.astype(float), right.astype(float), rtol=1e-5, equal_nan=True)
        return ~same
    both = (left.notna() & right.notna()).to_numpy()
    return both & (left.astype(str).to_numpy() != right.astype(str).to_numpy())


def _same_values(left: pd.Series, right: pd.Series) -> bool:
    return sorted(left.astype(str)) == sorted(right.astype(str))


def _told(theirs: pd.Series, ours: pd.Series, different: np.ndarray, other: str) -> str:
    at = int(np.flatnonzero(different)[0])
    return (
        f"{int(different.sum())} cells differ from {other}, the first is "
        f"{str(theirs.index[at])!r}: {theirs.iloc[at]!r} for {ours.iloc[at]!r}"
    )


def _finding(place: str, value: str, fix: str) -> Finding:
    return Finding(
        code="OBS_PERMUTED",
        severity="error",
        place=place,
        value=value,
        why="Annotation of one cell stands in the row of another.",
        fix=fix,
    )
