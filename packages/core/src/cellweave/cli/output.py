"""What the command line says: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cellweave.records import Progress, ProgressCallback

__all__ = ["fail", "note", "say", "show_json", "show_progress", "show_table", "stopped"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SECONDS_BETWEEN_LINES = 15.0


def clean(text: str) -> str:
    """Remove control characters, which file-borne strings must not send to a terminal."""
    return _CONTROL.sub("�", text)


def say(text: str) -> None:
    """Write one line of result to standard output."""
    typer.echo(clean(text))


def show_json(values: Any) -> None:
    """Write JSON to standard output."""
    typer.echo(json.dumps(values, indent=1, sort_keys=True, default=str))


def fail(text: str, *, as_json: bool, kind: str) -> None:
    """Write an error: a few lines to standard error, and JSON to standard output if asked."""
    if as_json:
        show_json({"error": {"kind": kind, "message": text}})
    sys.stderr.write(f"error: {clean(text)}\n")


def stopped(text: str, *, as_json: bool) -> None:
    """Write how work ended that was stopped when asked to: no result, and no error either."""
    if as_json:
        show_json({"error": {"kind": "Interrupted", "message": text}})
    sys.stderr.write(f"{clean(text)}\n")


def note(text: str) -> None:
    """Write one line to standard error that is no result and no error."""
    sys.stderr.write(f"note: {clean(text)}\n")


def show_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write aligned columns, plain enough to pipe."""
    cells = [[clean(str(v)) for v in row] for row in rows]
    widths = [max([len(h), *(len(r[i]) for r in cells)]) for i, h in enumerate(header)]
    for row in ([h.upper() for h in header], *cells):
        typer.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


@contextmanager
def show_progress(*, quiet: bool = False) -> Iterator[ProgressCallback | None]:
    """Yield a progress callback: a live bar on a terminal, a line now and then in a log."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _live_bar() as callback:
            yield callback
    else:
        yield _log_lines()


@contextmanager
def _live_bar() -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def callback(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, metrics="")
            bar.update(
                tasks[progress.stage],
                completed=progress.step,
                total=progress.total,
                metrics=format_metrics(progress.metrics),
            )

        yield callback


def _log_lines() -> ProgressCallback:
    last: dict[str, float] = {}

    def callback(progress: Progress) -> None:
        now = time.monotonic()
        is_first, is_last = progress.stage not in last, progress.step >= progress.total
        if is_first or is_last or now - last[progress.stage] >= _SECONDS_BETWEEN_LINES:
            last[progress.stage] = now
            sys.stderr.write(
                f"{progress.stage} {progress.step}/{progress.total} "
                f"{format_metrics(progress.metrics)}".rstrip()
                + "\n"
            )

    return callback


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Write the first few metrics short."""
    return " ".join(f"{name}={value:.4g}" for name, value in list(metrics.items())[:5])
