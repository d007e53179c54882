"""The numbers of a report: a few tiles to see first, then the table with what good looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.evaluation.verdict import GLOSSARY, rescaled
from cellweave.reporting.page import Section, Table

if TYPE_CHECKING:
    from cellweave.records import Score, Scores

__all__ = ["format_number", "metric_section", "tiles"]

_FIRST = ("label_transfer", "foscttm", "entropy_mixing", "linked_agreement")


def format_number(value: float | None) -> str:
    """Write a number with three digits that matter; a dash for none."""
    if value is None:
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.0f}"
    return f"{value:.2g}"


def tiles(scores: Scores | None) -> tuple[tuple[str, str, str], ...]:
    """Return the few numbers to see first."""
    if scores is None:
        return ()
    found = []
    total = scores.summary.get("integration_score")
    if total is not None and scores.summary.get("verdict") != "unknown":
        found.append(("Integration score", format_number(float(total)), "1 perfect, 0 chance"))
    whole = {s.metric: s for s in scores.items if not s.group and s.value is not None}
    for metric in _FIRST:
        if metric in whole:
            score = whole[metric]
            found.append((GLOSSARY[metric][0], format_number(score.value), _good(score)))
    return tuple(found)


def _good(score: Score) -> str:
    text = f"{format_number(score.best)} perfect"
    return text if score.chance is None else f"{text}, {format_number(score.chance)} chance"


def metric_section(scores: Scores | None) -> Section | None:
    """Return the table of metrics, and by direction; what is missing is told with its reason."""
    if scores is None:
        return None
    whole = [s for s in scores.items if not s.group]
    known = [s for s in whole if s.value is not None]
    missing = [s for s in whole if s.value is None]
    directions = [s for s in scores.items if "->" in s.group and s.metric in _FIRST]
    blocks = [
        Table(
            header=("Measure", "Value", "Chance to perfect", "Perfect", "Chance", "What it says"),
            rows=[_row(s) for s in known],
        )
    ]
    if directions:
        blocks.append(
            Table(
                title="By direction",
                header=("Measure", "From → to", "Value", "Chance to perfect"),
                rows=[
                    (
                        _name(s),
                        s.group.replace("->", " → "),
                        format_number(s.value),
                        ("", rescaled(s)),
                    )
                    for s in directions
                ],
            )
        )
    if missing:
        blocks.append(
            Table(
                title="Not measured",
                header=("Measure", "Why"),
                rows=[(_name(s), s.note) for s in missing],
            )
        )
    lead = (
        "A full bar is a perfect result; an empty one is no better than chance, or than nothing "
        "where chance is not known."
    )
    return Section(title="How good is it", lead=lead, blocks=tuple(blocks))


def _name(score: Score) -> str:
    return GLOSSARY.get(score.metric, (score.metric, ""))[0]


def _row(score: Score) -> tuple[str | tuple[str, float | None], ...]:
    meaning = GLOSSARY.get(score.metric, ("", ""))[1]
    return (
        _name(score),
        format_number(score.value),
        ("", rescaled(score)),
        format_number(score.best),
        format_number(score.chance),
        f"{meaning} ({score.note})" if score.note and meaning else meaning or score.note,
    )
