"""The report of a run: one HTML file with its curves, its pace and its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.pl.axes import new_axes, plain
from cellweave.reporting import Facts, Figure, Page, Section, Table, write_page
from cellweave_nn.training.run_folder import RunFolder, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["run_page", "write_run_report"]

_PACE = ("tokens_per_second", "cells_per_second", "mfu")
_NOT_DRAWN = {"step", "cells", "tokens", "seconds", "eta_seconds", "loss", "validation_loss"}
_COLOURS = ("#0b63a5", "#d1762c")


def write_run_report(run: RunFolder) -> None:
    """Write ``report.html`` into the folder of a run."""
    write_page(run.report, run_page(run))


def run_page(run: RunFolder) -> Page:
    """Build the page of a run from what its folder holds."""
    lines = read_metrics(run.metrics)
    steps = int(run.config()["training"]["steps"])
    done = int(lines[-1]["step"]) if lines else 0
    finished = run.model.exists()
    state = "Finished" if finished else f"Stopped; the same command goes on from step {done}"
    headline = f"{state}: {done:,} of {steps:,} steps. {_fall(lines)}"
    return Page(
        title=f"Training in {run.path.name}",
        verdict="good" if finished and _fell(lines) else "unknown",
        headline=headline.strip(),
        tiles=tuple(_tiles(lines)),
        sections=tuple(s for s in (_curves(lines), _pace(lines), _record(run)) if s),
        footer="This file needs no network and no other file.",
    )


def _curves(lines: Sequence[Mapping[str, Any]]) -> Section | None:
    if not lines:
        return None
    figures = [_figure(lines, ("loss", "validation_loss"), "Loss", wide=True)]
    others = [n for n in _numbers(lines) if n not in _NOT_DRAWN and n not in _PACE]
    figures += [_figure(lines, (name,), name.replace("_", " ")) for name in others]
    lead = "Good: the loss falls and levels off, and the validation loss falls with it."
    return Section(title="Curves", lead=lead, blocks=tuple(figures))


def _pace(lines: Sequence[Mapping[str, Any]]) -> Section | None:
    names = [n for n in _PACE if n in _numbers(lines)]
    if not names:
        return None
    figures = tuple(_figure(lines, (name,), name.replace("_", " ")) for name in names)
    lead = "MFU: needed matrix products over what one large product reaches on this device."
    return Section(title="Pace", lead=lead, blocks=figures)


def _record(run: RunFolder) -> Section:
    rows = [(name, str(value)) for name, value in sorted(run.identity().items())]
    where = Facts(items=[("Run", str(run.path.name)), ("Model", "model/"), ("Data", _data(run))])
    return Section(
        title="Settings, data and versions",
        blocks=(where, Table(header=("What", "Value"), rows=rows)),
        folded=True,
    )


def _data(run: RunFolder) -> str:
    data = run.config().get("data", "")
    return ", ".join(map(str, data)) if isinstance(data, list) else str(data)


def _figure(
    lines: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, *, wide: bool = False
) -> Figure:
    ax = new_axes(None, width=7.2 if wide else 3.6, height=2.8 if wide else 2.2)
    drawn = [n for n in names if any(n in line for line in lines)]
    for name, colour in zip(drawn, _COLOURS, strict=False):
        _draw(ax, lines, name, colour)
    if len(drawn) > 1:
        ax.legend(frameon=False, fontsize=8)
    ax.set_xlabel("step", fontsize=9)
    plain(ax, title)
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in names[0])
    return Figure(name=slug, title=title, canvas=ax.figure, wide=wide)  # type: ignore[arg-type]


def _draw(ax: Axes, lines: Sequence[Mapping[str, Any]], name: str, colour: str) -> None:
    there = [(line["step"], line[name]) for line in lines if name in line]
    steps, values = (np.array(column, dtype=np.float64) for column in zip(*there, strict=True))
    style = "-" if len(steps) > 1 else "o"
    ax.plot(steps, values, style, color=colour, lw=1.4, ms=3, label=name.replace("_", " "))


def _numbers(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {k: None for line in lines for k, v in line.items() if isinstance(v, int | float)}
    return sorted(found)


def _ends(lines: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the mean loss of the first and of the last twentieth of the steps."""
    losses = [float(line["loss"]) for line in lines if "loss" in line]
    n = max(1, len(losses) // 20)
    return float(np.mean(losses[:n])), float(np.mean(losses[-n:]))


def _fell(lines: Sequence[Mapping[str, Any]]) -> bool:
    first, last = _ends(lines) if lines else (0.0, 0.0)
    return last < first


def _fall(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    first, last = _ends(lines)
    return f"The loss went from {first:.4g} to {last:.4g}."


def _tiles(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    if not lines:
        return []
    last = lines[-1]
    validated = [line["validation_loss"] for line in lines if "validation_loss" in line]
    tiles = [("Loss", f"{last['loss']:.4g}", "at the last step")]
    if validated:
        tiles.append(("Validation loss", f"{validated[-1]:.4g}", "of held-out cells"))
    tiles.append(("Cells seen", f"{last['cells']:,}", f"{last['tokens']:,} tokens"))
    pace = [line["cells_per_second"] for line in lines if "cells_per_second" in line]
    tiles.append(("Cells a second", f"{np.median(pace):,.0f}", "median over steps"))
    used = [line["mfu"] for line in lines if "mfu" in line]
    if used:
        tiles.append(("MFU", f"{np.median(used):.0%}", "of this device's own product rate"))
    return tiles
