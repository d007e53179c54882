"""Validate data: all checks, over all values, all findings at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cellweave.records.findings import Finding, FindingReport
from cellweave.validation.check_cells import check_annotation, check_keys, check_overlap
from cellweave.validation.check_mapping import check_mapping
from cellweave.validation.check_names import check_names, check_names_between
from cellweave.validation.check_values import check_values
from cellweave.validation.subject import Part, Subject, look_at

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["validate"]

_ORDER = {"error": 0, "warning": 1, "note": 2}


def validate(
    mdata: MuData | AnnData, *, batch_key: str = "batch", label_key: str = "cell_type"
) -> FindingReport:
    """Look for everything that would make later steps wrong.

    All stored values are looked at, none is sampled, nothing is random and nothing is changed.

    Parameters
    ----------
    mdata
        A MuData, or an AnnData whose modality is then told by its features.
    batch_key, label_key
        Columns of ``obs`` with the technical batch and the cell type.

    Returns
    -------
    All findings, most severe first; ``report.ok`` tells whether there is no error.
    """
    subject = look_at(mdata, batch_key=batch_key, label_key=label_key)
    findings = sorted(_all(subject), key=lambda f: (_ORDER[f.severity], f.place, f.code))
    return FindingReport(
        findings=tuple(findings), checked=tuple(_told(part) for part in subject.parts)
    )


def _all(subject: Subject) -> Iterator[Finding]:
    if not subject.parts:
        yield Finding(
            code="NO_MODALITY",
            severity="error",
            place="mdata",
            value="there is no modality",
            why="There is nothing to work on.",
            fix="mdata = cellweave.read('rna=file.h5ad', …)",
        )
    yield from check_keys(subject)
    for part in subject.parts:
        yield from _size(part)
        yield from check_values(part)
        yield from check_names(part, alone=len(subject.parts) == 1)
        yield from check_annotation(part, batch_key=subject.batch_key, label_key=subject.label_key)
    yield from check_names_between(subject.parts)
    yield from check_overlap(subject.parts)
    yield from check_mapping(subject)


def _size(part: Part) -> Iterator[Finding]:
    if 0 in part.adata.shape:
        yield Finding(
            code="NO_CELLS" if part.adata.n_obs == 0 else "NO_FEATURES",
            severity="error",
            place=part.place,
            value=f"{part.adata.n_obs} cells × {part.adata.n_vars} features",
            why="There is nothing to work on.",
            fix="Read the file again, or look at the step that dropped them all.",
        )


def _told(part: Part) -> str:
    n = 0 if part.raw is None else part.raw.n_nonzero
    kind = "none" if part.raw is None else part.raw.kind
    return (
        f"{part.place}: {part.adata.n_obs} cells × {part.adata.n_vars} features, {n} values "
        f"({kind}), named by {part.names.id_kind}"
        f"{f' ({part.names.species})' if part.names.species else ''}"
    )
