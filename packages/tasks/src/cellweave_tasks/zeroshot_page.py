"""The page of the zero-shot protocol: who beats the baselines, in words, a table and UMAPs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.reporting import Page, Section, Table
from cellweave.reporting.numbers import format_number
from cellweave_tasks.embedding_pages import embedding_figures, wide_table
from cellweave_tasks.features import column_of
from cellweave_tasks.masked_genes import masked_section

if TYPE_CHECKING:
    from cellweave.reporting.page import Verdict
    from cellweave_tasks.zeroshot import ZeroShot

__all__ = ["zeroshot_page"]


def zeroshot_page(found: ZeroShot) -> Page:
    """Return the page of one run."""
    summary, scores = found.scores.summary, found.scores
    cells = found.cells
    sections = [_table(found, key, first=i == 0) for i, key in enumerate(found.label_keys)]
    figures = embedding_figures(
        found.representations,
        column_of(cells, found.label_keys[0]),
        column_of(cells, found.batch_key),
        seed=(scores.provenance.seed or 0) if scores.provenance else 0,
    )
    lead = "Models first, then the baselines. Colours are the same in every picture."
    sections.append(Section(title="UMAP of every embedding", lead=lead, blocks=figures))
    if found.masked:
        sections.append(masked_section(found.masked, found.unmasked))
    sections.append(_notes(found))
    return Page(
        title=f"Zero-shot: {', '.join(found.models)}",
        verdict=_verdict(found),
        headline=str(summary["headline"]),
        sentences=(
            *summary["sentences"][1:],
            f"{cells.n_obs:,} cells. The baselines read no label; no model was trained here.",
        ),
        sections=tuple(sections),
        footer=scores.provenance.to_json() if scores.provenance else "",
    )


def _table(found: ZeroShot, key: str, *, first: bool) -> Section:
    from dataclasses import replace

    group = "" if first else f"labels:{key}"
    items = [replace(s, group="") for s in found.scores.items if s.group == group]
    return Section(title=f"Scores by {key}", blocks=(wide_table(items),))


def _notes(found: ZeroShot) -> Section:
    rows = [
        (s.metric, s.method, format_number(s.value), format_number(s.best),
         format_number(s.chance), s.note)
        for s in sorted((s for s in found.scores.items if not s.group), key=lambda s: s.metric)
    ]  # fmt: skip
    header = ("Measure", "Embedding", "Value", "Perfect", "Chance", "Note")
    return Section(title="Every number", blocks=(Table(header=header, rows=rows),), folded=True)


def _verdict(found: ZeroShot) -> Verdict:
    """Good when every model keeps types better than all baselines, fair when one does."""
    prefix = "avg_bio_gap:"
    gaps = [v for k, v in found.scores.summary.items() if k.startswith(prefix)]
    if not gaps:
        return "unknown"
    if min(gaps) > 0:
        return "good"
    return "fair" if max(gaps) > 0 else "poor"
