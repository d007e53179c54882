"""Findings on cells: batches and labels, overlap between modalities, annotation in wrong order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.errors import closest
from cellweave.records.findings import Finding
from cellweave.validation.names import cell_barcodes
from cellweave.validation.subject import Part, Subject

__all__ = ["check_annotation", "check_keys", "check_overlap"]

_DEFAULTS = ("batch", "cell_type")
_MOST_CELLS = 20_000


def check_keys(subject: Subject) -> Iterator[Finding]:
    """Say that a key the caller chose is nowhere; the default keys may be absent."""
    tables = [p.adata.obs for p in subject.parts]
    if subject.mdata is not None:
        tables.append(subject.mdata.obs)
    known = {str(c) for table in tables for c in table.columns}
    for argument, key in (("batch_key", subject.batch_key), ("label_key", subject.label_key)):
        if key not in _DEFAULTS and key not in known:
            yield Finding(
                code="KEY_MISSING",
                severity="error",
                place=f"{argument}={key!r}",
                value=f"no modality has obs[{key!r}]",
                why="The check of batches against labels needs the column.",
                fix=f"Give one of: {', '.join(sorted(known)) or 'none'}.{closest(key, known)}",
            )


def check_annotation(part: Part, *, batch_key: str, label_key: str) -> Iterator[Finding]:
    """Look at batches and labels of one modality, and whether they belong to its rows."""
    obs = part.adata.obs
    for key in (batch_key, label_key):
        if key in obs:
            yield from _column(part, key, obs[key], is_batch=key == batch_key)
    if batch_key in obs and label_key in obs and batch_key != label_key:
        yield from _batch_is_label(part, obs[batch_key], obs[label_key], (batch_key, label_key))
    yield from _totals_permuted(part)
    if label_key in obs:
        yield from _labels_unrelated(part, label_key)


def check_overlap(parts: Sequence[Part]) -> Iterator[Finding]:
    """Compare the cells of modalities, and the features of those that measure genes."""
    for first, second in combinations(parts, 2):
        yield from _cells_between(first, second)
        if {first.modality, second.modality} <= {"rna", "spatial"} and first.names.n:
            yield from _features_between(first, second)


def _column(part: Part, key: str, values: pd.Series, *, is_batch: bool) -> Iterator[Finding]:
    what, place = ("BATCH" if is_batch else "LABEL"), f"{part.place}.obs[{key!r}]"
    missing = int(values.isna().sum())
    if missing:
        yield Finding(
            code=f"{what}_VALUES_MISSING",
            severity="warning" if is_batch else "note",
            place=place,
            value=f"{missing} of {len(values)} cells have none",
            why="Such cells are left out, or form a group of their own by accident.",
            fix=f"{place} = {place}.cat.add_categories('unknown').fillna('unknown')",
        )
    if len(values) > 20 and values.nunique() > 0.9 * len(values) and values.dtype.kind not in "fc":
        yield Finding(
            code=f"{what}_UNIQUE_PER_CELL",
            severity="error",
            place=place,
            value=f"{values.nunique()} different values in {len(values)} cells",
            why="Groups of one cell leave nothing to compare.",
            fix=f"Name the column that holds {'batches' if is_batch else 'cell types'}: "
            f"{'batch' if is_batch else 'label'}_key='…'",
        )


def _batch_is_label(
    part: Part, batch: pd.Series, label: pd.Series, keys: tuple[str, str]
) -> Iterator[Finding]:
    known = (batch.notna() & label.notna()).to_numpy()
    rows, columns = (pd.factorize(v[known].astype(str).to_numpy())[0] for v in (batch, label))
    table = np.zeros((rows.max(initial=-1) + 1, columns.max(initial=-1) + 1), dtype=bool)
    table[rows, columns] = True
    if min(table.shape, default=0) < 2:
        return
    one_label, one_batch = (table.sum(1) == 1).all(), (table.sum(0) == 1).all()
    if not one_batch:
        return
    same = bool(one_label)
    yield Finding(
        code="BATCH_IS_LABEL" if same else "BATCH_CONFOUNDS_LABEL",
        severity="error" if same else "warning",
        place=f"{part.place}.obs[{keys[0]!r}], obs[{keys[1]!r}]",
        value=f"{table.shape[0]} batches and {table.shape[1]} labels are "
        f"{'the same partition' if same else 'nested: no label occurs in two batches'}",
        why="Removing the batch would remove the biology, and no score can tell them apart.",
        fix="Name the column that holds the technical batch: batch_key='…'",
    )


def _totals_permuted(part: Part) -> Iterator[Finding]:
    """Totals kept in obs must belong to the rows: the same numbers in another order do not."""
    if part.raw is None:
        return
    sums, counts = part.raw.row_sums, part.raw.row_counts.astype(np.float64)
    for key in part.adata.obs.columns:
        name = str(key).lower()
        if name in ("n_counts", "total_counts", "n_umi", "n_umis") or name.startswith("ncount_"):
            expected = sums
        elif name in ("n_genes", "n_genes_by_counts") or name.startswith("nfeature_"):
            expected = counts
        else:
            continue
        column = pd.to_numeric(part.adata.obs[key], errors="coerce").to_numpy(np.float64)
        if _is_shuffle(column, expected):
            yield _permuted(
                f"{part.place}.obs[{str(key)!r}]",
                f"its numbers are the totals of the rows in another order "
                f"({_first_difference(column, expected, part)})",
            )


def _labels_unrelated(part: Part, key: str) -> Iterator[Finding]:
    """Labels that explain no more of the values than chance were given to the wrong rows.

    Under random assignment labels explain ``(k - 1) / (n - 1)`` of the variance whatever the data.
    """
    ratio = explained_over_chance(part, key)
    if ratio is None:
        return
    # Chance scatters about one; the less features and labels, the wider (features go in groups,
    # so a quarter of them counts as independent).
    independent = max(part.adata.n_vars / 4, 1) * (part.adata.obs[key].nunique() - 1)
    if ratio < 1.25 + 3 * (2 / independent) ** 0.5:
        yield Finding(
            code="LABELS_UNRELATED",
            severity="warning",
            place=f"{part.place}.obs[{key!r}]",
            value=f"labels explain {ratio:.2f} times the variance that random ones would",
            why="Labels that say nothing about the values probably stand in another row order.",
            fix=f"{part.place}.obs[{key!r}] = labels.reindex({part.place}.obs_names)",
        )


def explained_over_chance(part: Part, key: str) -> float | None:
    """Give the variance that labels explain over what random ones would; ``None`` if too few."""
    raw = part.raw
    labels = part.adata.obs[key]
    if raw is None or raw.n_not_finite or raw.n_nonzero == 0 or labels.dtype.kind in "fc":
        return None
    step = -(-part.adata.n_obs // _MOST_CELLS)
    codes, names = pd.factorize(labels.to_numpy()[::step])
    rows = np.flatnonzero((codes >= 0) & (raw.row_counts[::step] > 0))
    codes, k = codes[rows], len(names)
    if len(rows) < 100 or not 2 <= k <= len(rows) // 10:
        return None
    matrix = part.adata.layers["counts"] if part.raw_place.endswith("']") else part.adata.X
    values = _comparable(matrix[::step][rows] if step > 1 else matrix[rows])
    within = sp.csr_matrix((np.ones(len(rows)), (codes, np.arange(len(rows)))), (k, len(rows)))
    sizes = np.maximum(np.bincount(codes, minlength=k), 1)[:, None]
    sums = np.asarray((within @ values).todense())
    centre = sums.sum(0) ** 2 / len(rows)
    between = (sums**2 / sizes).sum(0) - centre
    total = np.asarray(values.power(2).sum(0)).ravel() - centre
    varies = total > 1e-9
    if not varies.any():
        return None
    # Every feature counts the same, so that a few loud ones cannot decide.
    return float((between[varies] / total[varies]).mean() * (len(rows) - 1) / (k - 1))


def _comparable(matrix: Any) -> sp.csr_matrix:
    """Take depth and loudness out: signed root of shares."""
    values = sp.csr_matrix(matrix).astype(np.float64)
    totals = np.asarray(abs(values).sum(1)).ravel()
    values = sp.csr_matrix(sp.diags_array(1 / np.maximum(totals, 1e-12)) @ values)
    values.data = np.sign(values.data) * np.sqrt(np.abs(values.data))
    return values


def _cells_between(a: Part, b: Part) -> Iterator[Finding]:
    left, right = a.adata.obs_names, b.adata.obs_names
    smaller = min(len(left), len(right))
    if smaller == 0:
        return
    shared = len(left.intersection(right))
    place = f"{a.place}.obs_names, {b.place}.obs_names"
    bare = 0 if shared else len(cell_barcodes(left).intersection(cell_barcodes(right)))
    if bare > 0.5 * smaller:
        yield Finding(
            code="CELL_NAMES_DIFFER",
            severity="warning",
            place=place,
            value=f"no common name, but {bare} common barcodes: {str(left[0])!r} and "
            f"{str(right[0])!r}",
            why="Cells measured together are taken for different ones.",
            fix=f"{b.place}.obs_names = names spelt as in {a.place}",
        )
    elif shared == 0:
        yield Finding(
            code="CELLS_UNPAIRED",
            severity="note",
            place=place,
            value=f"no cell of {len(left)} and {len(right)} is in both",
            why="Only methods for unpaired modalities apply.",
            fix="Nothing to mend when the experiments were separate.",
        )
    elif shared < 0.5 * smaller:
        yield Finding(
            code="CELLS_OVERLAP_LOW",
            severity="warning",
            place=place,
            value=f"{shared} cells are in both, of {len(left)} and {len(right)}",
            why="So small an overlap often means that one table was cut or renamed.",
            fix="Check that both come from one experiment; keep the common cells for paired work.",
        )


def _features_between(a: Part, b: Part) -> Iterator[Finding]:
    left, right = a.adata.var_names, b.adata.var_names
    shared, smaller = len(left.intersection(right)), min(len(left), len(right))
    if smaller and shared < 0.5 * smaller:
        yield Finding(
            code="FEATURES_OVERLAP_LOW",
            severity="warning",
            place=f"{a.place}.var_names, {b.place}.var_names",
            value=f"{shared} features are in both, of {len(left)} and {len(right)}",
            why="Modalities of one kind are joined by the features they share.",
            fix="Bring both to one kind of identifier and one annotation release.",
        )


def _permuted(place: str, value: str) -> Finding:
    return Finding(
        code="OBS_PERMUTED",
        severity="error",
        place=place,
        value=value,
        why="Annotation of one cell stands in the row of another.",
        fix="Assign by name, not by position: obs['…'] = series.reindex(obs_names)",
    )


def _is_shuffle(left: np.ndarray, right: np.ndarray) -> bool:
    if len(left) < 3 or np.isnan(left).any() or np.allclose(left, right, rtol=1e-3):
        return False
    return bool(np.allclose(np.sort(left), np.sort(right), rtol=1e-3))


def _first_difference(column: np.ndarray, expected: np.ndarray, part: Part) -> str:
    at = int(np.flatnonzero(~np.isclose(column, expected, rtol=1e-3))[0])
    return f"{str(part.adata.obs_names[at])!r}: {column[at]:g} for {expected[at]:g}"
