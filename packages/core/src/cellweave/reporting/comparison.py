"""The report of a comparison: which method to take, at which quality, time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave import pl
from cellweave.evaluation.verdict import GLOSSARY, rescaled
from cellweave.reporting.numbers import format_number
from cellweave.reporting.page import Facts, Figure, Page, Section, Table, write_page

if TYPE_CHECKING:
    from cellweave.records import Scores

__all__ = ["comparison_page", "write_comparison_report"]

_NAMES = {
    "integration_score": "Integration score",
    "seconds": "Seconds",
    "peak_gb": "Peak memory, GB",
}


def write_comparison_report(
    path: str | Path, *, comparison: Any, title: str = "Methods compared"
) -> None:
    """Write one self-contained HTML file about a comparison.

    Parameters
    ----------
    path
        Where to write.
    comparison
        What :func:`cellweave.compare` gave: ``scores``, ``recommendation`` and ``runs``.
    title
        Of the page.
    """
    write_page(path, comparison_page(comparison, title=title))


def comparison_page(comparison: Any, *, title: str = "Methods compared") -> Page:
    """Build the page without writing it."""
    scores: Scores = comparison.scores
    sections = [Section(title="Medians over seeds", blocks=(_table(scores), *_heat(scores)))]
    sections.append(Section(title="Every run", blocks=(_runs(comparison),)))
    failures = [(f"{r.method}, seed {r.seed}", r.failure) for r in comparison.runs if r.failure]
    if failures:
        sections.append(Section(title="Runs that failed", blocks=(Facts(items=failures),)))
    best = scores.summary.get("best")
    verdicts = [
        r.scores.summary.get("verdict") for r in comparison.runs if r.scores and r.method == best
    ]
    ranks = ("poor", "fair", "good")
    known = [v for v in verdicts if v in ranks]
    return Page(
        title=title,
        sections=tuple(sections),
        verdict=min(known, key=ranks.index) if known else "unknown",
        headline=comparison.recommendation,
    )


def _table(scores: Scores) -> Table:
    metrics = list(dict.fromkeys(s.metric for s in scores.items))
    methods = list(dict.fromkeys(s.method for s in scores.items))
    by = {(s.method, s.metric): s for s in scores.items}
    rows: list[list[str | tuple[str, float | None]]] = [
        [
            method,
            *(
                (format_number(by[method, m].value), rescaled(by[method, m]))
                for m in metrics
                if (method, m) in by
            ),
        ]
        for method in methods
    ]
    header = ["Method", *(_NAMES.get(m) or GLOSSARY.get(m, (m, ""))[0] for m in metrics)]
    return Table(header=header, rows=rows, note="Best first. A full bar is a perfect result.")


def _heat(scores: Scores) -> tuple[Figure, ...]:
    shown = [s for s in scores.items if s.metric in GLOSSARY and rescaled(s) is not None]
    if not shown:
        return ()
    ax = pl.metrics_table(shown)
    figure = Figure(
        name="metrics",
        title="Methods against measures",
        canvas=ax.figure,  # type: ignore[arg-type]
        look_for="Darker is nearer to perfect.",
    )
    return (figure,)


def _runs(comparison: Any) -> Table:
    rows = [
        (
            run.method,
            str(run.seed),
            format_number(run.scores.summary.get("integration_score") if run.scores else None),
            str(run.scores.summary.get("verdict", "–")) if run.scores else "failed",
            format_number(run.seconds),
            format_number(run.peak_bytes / 1e9),
        )
        for run in comparison.runs
    ]
    header = ("Method", "Seed", "Integration score", "Verdict", "Seconds", "Peak memory, GB")
    return Table(header=header, rows=rows)
