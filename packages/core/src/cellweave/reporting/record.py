"""The record of a report: which data, what was done to them, advice, provenance and versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.reporting.cells import ShownCells
from cellweave.reporting.numbers import format_number
from cellweave.reporting.page import Facts, Section, Table

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import IntegrationResult, Provenance, Scores

__all__ = ["advice_section", "data_section", "provenance_section"]


def data_section(mdata: MuData, cells: ShownCells, result: IntegrationResult | None) -> Section:
    """Return what was done to which data."""
    rows = [_modality_row(mdata, cells, m) for m in cells.embeddings]
    header = ("Modality", "Cells", "Features", "Used", "Types", "Prepared by")
    blocks: list[Table | Facts] = [Table(header=header, rows=rows)]
    if result is not None:
        width = next(iter(result.embeddings.values())).shape[1]
        said = result.provenance
        facts = [
            ("Method", f"{said.component} {said.version}"),
            ("Seed", str(said.seed)),
            ("Gave", f"{width} shared coordinates per cell"),
            *((name, format_number(float(v))) for name, v in result.quality.items()),
        ]
        blocks.append(Facts(items=facts))
    return Section(title="What was done to which data", blocks=tuple(blocks))


def _modality_row(mdata: MuData, cells: ShownCells, modality: str) -> tuple[str, ...]:
    adata = mdata.mod[modality]
    used = (
        int(np.asarray(adata.var["highly_variable"], dtype=bool).sum())
        if "highly_variable" in adata.var
        else adata.n_vars
    )
    labels = cells.labels.get(modality)
    types = len({str(v) for v in labels if v is not None}) if labels is not None else 0
    return (
        modality,
        f"{adata.n_obs:,}",
        f"{adata.n_vars:,}",
        f"{used:,}",
        str(types) if types else "not given",
        _steps(adata.uns.get("preparation")),
    )


def _steps(text: Any) -> str:
    from cellweave.records import Preparation

    try:
        steps = Preparation.from_json(str(text)).steps
    except (ValueError, KeyError, TypeError):
        return "not recorded"
    return " → ".join(step.name for step in steps)


def advice_section(result: IntegrationResult | None, scores: Scores | None) -> Section | None:
    """Return what the method says about itself, and what to try when the result is weak."""
    said = list(result.advice) if result is not None else []
    if scores is not None and scores.summary.get("verdict") in ("fair", "poor"):
        said += _general(scores)
    if not said:
        return None
    items = [("", text) for text in dict.fromkeys(said)]
    return Section(title="What to try", blocks=(Facts(items=items, names=False),))


def _general(scores: Scores) -> list[str]:
    families = scores.summary.get("families", {})
    found = []
    if families.get("types", 1.0) < 0.6:
        found.append(
            "Types are confused: look at the confusion above. Types that one modality cannot tell "
            "apart will not match; merge them. Check the feature links: more and surer links help."
        )
    if families.get("mixing", 1.0) < 0.5:
        found.append(
            "Modalities stay apart: check that both hold the same kinds of cells, that each was "
            "prepared from raw counts, and that batches were given as `batch_key`."
        )
    found.append("Try another method on the same data: `cellweave compare` ranks them.")
    return found


def provenance_section(result: IntegrationResult | None, scores: Scores | None) -> Section | None:
    """Return parameters, inputs and versions: enough to make it again."""
    blocks = []
    if result is not None:
        blocks.append(_provenance(result.provenance, "Integration"))
    if scores is not None and scores.provenance is not None:
        blocks.append(_provenance(scores.provenance, "Evaluation"))
    if not blocks:
        return None
    return Section(title="Provenance and versions", blocks=tuple(blocks))


def _provenance(said: Provenance, title: str) -> Table:
    rows = [("component", f"{said.component} {said.version}"), ("seed", str(said.seed))]
    rows += [(name, json.dumps(v, ensure_ascii=False)) for name, v in said.parameters.items()]
    rows += [(f"sha256 of {name}", digest) for name, digest in said.inputs.items()]
    rows += [(f"{name} version", version) for name, version in said.versions.items()]
    return Table(title=title, header=("What", "Value"), rows=rows)
