"""Look at runs: list those in a folder, and lay some side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellweave.errors import ConfigError, UnreadableFileError
from cellweave_nn.training.run_folder import RunFolder, read_metrics

__all__ = ["RunSummary", "compare_runs", "list_runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Say where a run stands."""

    path: str
    step: int
    steps: int
    loss: float | None
    validation_loss: float | None
    finished: bool


def list_runs(folder: str | Path) -> list[RunSummary]:
    """Return the runs below ``folder``, by path."""
    if not Path(folder).is_dir():
        msg = f"{str(folder)!r} is not a folder. Give one with run folders below it."
        raise UnreadableFileError(msg)
    places = sorted(Path(folder).rglob("run.json"))
    return [_summary(RunFolder(path=place.parent)) for place in places]


def compare_runs(paths: Sequence[str | Path]) -> dict[str, list[Any]]:
    """Return what differs between runs, one list entry a run: settings first, then metrics."""
    if len(paths) < 2:
        msg = f"{len(paths)} run is nothing to compare. Give at least two run folders."
        raise ConfigError(msg)
    runs = [RunFolder(path=Path(path)) for path in paths]
    identities = [run.identity() for run in runs]
    keys = sorted({key for identity in identities for key in identity})
    table: dict[str, list[Any]] = {"run": [str(path) for path in paths]}
    for key in keys:
        values = [identity.get(key) for identity in identities]
        if any(value != values[0] for value in values):
            table[key] = values
    lasts = [(read_metrics(run.metrics) or [{}])[-1] for run in runs]
    for name in sorted({name for last in lasts for name in last}):
        table[f"last {name}"] = [last.get(name) for last in lasts]
    return table


def _summary(run: RunFolder) -> RunSummary:
    lines = read_metrics(run.metrics)
    last = lines[-1] if lines else {}
    validated = [line["validation_loss"] for line in lines if "validation_loss" in line]
    return RunSummary(
        path=str(run.path),
        step=int(last.get("step", 0)),
        steps=int(run.config()["training"]["steps"]),
        loss=last.get("loss"),
        validation_loss=validated[-1] if validated else None,
        finished=run.model.exists(),
    )
