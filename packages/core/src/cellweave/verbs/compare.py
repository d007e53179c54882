"""Run several integrators on one data set and say which did best."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellweave.errors import CellweaveError, ConfigError
from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind
from cellweave.verbs.evaluate import evaluate
from cellweave.verbs.integrate import integrate
from cellweave.verbs.link import link
from cellweave.verbs.prepare import prepare

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, ProgressCallback, Scores

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

    A method that fails is told in the table with its reason; the others go on. Peak memory is
    that of the whole process up to the end of the run, so it can only grow from run to run.

    Examples
    --------
    >>> import cellweave
    >>> mdata = cellweave.datasets.simulate(n_cells=200, seed=0)
    >>> cellweave.compare(mdata, methods=["maxfuse", "bindsc"], seeds=1)  # doctest: +SKIP
    """
    if not methods or seeds < 1:
        msg = f"Got methods={list(methods)!r} and seeds={seeds}. Give one or more of each."
        raise ConfigError(msg)
    registry = get_plugin_manager().registry(ComponentKind.INTEGRATOR)
    for method in methods:
        registry[method]  # an unknown name is told before any work
    ready = prepare(mdata, progress=progress)
    links = link(ready) if links is None else links
    scoring = {"label_key": label_key, "pairing": pairing, "batch_key": batch_key}
    runs = [
        _run(ready, method, seed, links, scoring, dict(parameters or {}).get(method), progress)
        for seed in range(seeds)
        for method in methods
    ]
    from cellweave.evaluation import compare_table

    scores, recommendation = compare_table(runs)
    return Comparison(runs=tuple(runs), scores=scores, recommendation=recommendation)


def _run(
    mdata: MuData,
    method: str,
    seed: int,
    links: Sequence[FeatureLinks],
    scoring: Mapping[str, str | None],
    parameters: Mapping[str, Any] | None,
    progress: ProgressCallback | None,
) -> Run:
    started, cpu = time.perf_counter(), time.process_time()
    scores, failure = None, ""
    try:
        result = integrate(
            mdata, method, links=links, seed=seed, parameters=parameters, progress=progress
        )
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        written = mdata.copy()
        result.write(written, key_added="X_compared")
        scores = evaluate(written, use_rep="X_compared", seed=0, **scoring)  # type: ignore[arg-type]
    except CellweaveError as error:
        failure = str(error)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return Run(
        method=method,
        seed=seed,
        scores=scores,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        failure=failure,
    )
