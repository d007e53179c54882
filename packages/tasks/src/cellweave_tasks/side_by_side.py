"""Scores as a table in which what is compared stands side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellweave.reporting.numbers import format_number

if TYPE_CHECKING:
    from cellweave.records import Score

__all__ = ["number_of", "side_by_side"]

_MOST_COLUMNS = 5  # methods side by side; more stand below one another
_NOTHING = ("", "–")


def side_by_side(items: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the scores of the whole: measures down, methods across.

    With many methods it is the other way round. Columns in which nothing is said are left out.
    """
    whole = {(s.metric, s.method): s for s in items if not s.group}
    metrics, methods = (list(dict.fromkeys(key[i] for key in whole)) for i in (0, 1))
    if len(methods) > _MOST_COLUMNS:
        header = ["Method", *metrics]
        rows = [[m, *(number_of(whole.get((k, m))) for k in metrics)] for m in methods]
    else:
        header = ["Measure", *methods, "Perfect", "Chance", "Note"]
        rows = [_row(metric, [whole.get((metric, m)) for m in methods]) for metric in metrics]
    said = [i for i in range(len(header)) if any(row[i] not in _NOTHING for row in rows)]
    return [header[i] for i in said], [[row[i] for i in said] for row in rows]


def number_of(score: Score | None) -> str:
    """Return the value, and its spread where it is a mean."""
    if score is None:
        return "–"
    spread = score.note if score.note.startswith("±") else ""
    return f"{format_number(score.value)} {spread.partition(' over ')[0]}".strip()


def _row(metric: str, scores: list[Score | None]) -> list[str]:
    known = [s for s in scores if s is not None]
    notes = {s.note for s in known if not s.note.startswith("±")}
    return [
        metric,
        *map(number_of, scores),
        format_number(known[0].best),
        format_number(known[0].chance),
        notes.pop() if len(notes) == 1 else "",
    ]
