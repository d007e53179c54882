"""Run several integrators on one data set and say which did best."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.errors import ConfigError
from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind
from cellweave.verbs._compare_run import DATA
from cellweave.verbs.evaluate import evaluate
from cellweave.verbs.link import link
from cellweave.verbs.prepare import prepare

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, ProgressCallback, Scores

_LAST_LINES = 3  # of a crashed run's words, shown as its reason

__all__ = ["Comparison", "Run", "compare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One method with one seed: its scores, its cost, or why it failed."""

    method: str
    seed: int
    scores: Scores | None
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All runs, the table of medians over seeds, and a recommendation in a sentence."""

    runs: tuple[Run, ...]
    scores: Scores
    recommendation: str


def compare(
    mdata: MuData,
    *,
    methods: Sequence[str],
    seeds: int = 3,
    links: Sequence[FeatureLinks] | None = None,
    label_key: str = "cell_type",
    pairing: str | None = None,
    batch_key: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    progress: ProgressCallback | None = None,
) -> Comparison:
    """Integrate with every method and seed, score each alike, and compare.

    Every run is a process of its own: its peak memory is its own, and one that fails or crashes
    is told in the table with its reason while the others go on.

    Parameters
    ----------
    mdata
        Raw or prepared data.
    methods
        Names of integrators.
    seeds
        Seeds 0, 1, … of each method.
    links
        Links between features; asked from the packages when not given.
    label_key, pairing, batch_key
        As in :func:`cellweave.evaluate`; never shown to the methods.
    parameters
        Method to the arguments of its constructor; defaults otherwise.
    progress
        Called before each run.

    Examples
    --------
    >>> import cellweave
    >>> mdata = cellweave.datasets.simulate(n_cells=200, seed=0)
    >>> cellweave.compare(mdata, methods=["maxfuse", "bindsc"], seeds=1)  # doctest: +SKIP
    """
    jobs = _plan(methods, seeds, dict(parameters or {}))
    ready = prepare(mdata, progress=progress)
    links = link(ready) if links is None else links
    scoring = {"label_key": label_key, "pairing": pairing, "batch_key": batch_key}
    runs = []
    with tempfile.TemporaryDirectory(prefix="cellweave-compare-") as place:
        folder = Path(place)
        _lay_out(folder, ready, links)
        for step, job in enumerate(jobs, start=1):
            if progress:
                progress(_report(job, step, len(jobs)))
            runs.append(_run(folder, f"job{step}", job, ready, scoring))
    from cellweave.evaluation import compare_table

    scores, recommendation = compare_table(runs)
    return Comparison(runs=tuple(runs), scores=scores, recommendation=recommendation)


def _plan(
    methods: Sequence[str], seeds: int, parameters: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """List the jobs; unknown names are told before any work."""
    if not methods or seeds < 1:
        msg = f"Got methods={list(methods)!r} and seeds={seeds}. Give one or more of each."
        raise ConfigError(msg)
    registry = get_plugin_manager().registry(ComponentKind.INTEGRATOR)
    for method in methods:
        registry[method]
    return [
        {"method": method, "seed": seed, "parameters": dict(parameters.get(method, {}))}
        for seed in range(seeds)
        for method in methods
    ]


def _lay_out(folder: Path, mdata: MuData, links: Sequence[FeatureLinks]) -> None:
    from cellweave.verbs.read import write

    write(mdata, folder / DATA)
    for i, one in enumerate(links):
        one.save(folder / f"links-{i:02d}.npz")


def _report(job: Mapping[str, Any], step: int, total: int) -> Any:
    from cellweave.records import Progress

    return Progress(stage=f"{job['method']} seed {job['seed']}", step=step, total=total)


def _run(
    folder: Path,
    name: str,
    job: Mapping[str, Any],
    mdata: MuData,
    scoring: Mapping[str, Any],
) -> Run:
    from cellweave.records import IntegrationResult

    (folder / f"{name}.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "cellweave.verbs._compare_run", str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    cost_file = folder / f"{name}-cost.json"
    cost: dict[str, Any]
    if not cost_file.exists():
        words = " ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        reason = f"it ended with exit code {done.returncode}: {words}"
        cost = {"failure": reason, "seconds": 0.0, "cpu_seconds": 0.0, "peak_bytes": 0}
    else:
        cost = json.loads(cost_file.read_text())
    scores = None
    if not cost["failure"]:
        written = mdata.copy()
        IntegrationResult.load(folder / f"{name}-result.npz").write(written, key_added="X_compared")
        scores = evaluate(written, use_rep="X_compared", seed=0, **scoring)
    return Run(method=job["method"], seed=job["seed"], scores=scores, **cost)
