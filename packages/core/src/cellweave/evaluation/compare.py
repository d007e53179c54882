"""Several methods on one data set: one table of quality and cost, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cellweave.errors import DataError
from cellweave.records import Score, Scores

__all__ = ["ComparedRun", "RunLike", "compare_table"]

_QUALITY = ("integration_score", "foscttm", "label_transfer", "ari", "seurat_alignment",
            "graph_connectivity", "linked_agreement")  # fmt: skip
_COST = ("seconds", "peak_gb")


class RunLike(Protocol):
    """What a run must tell to be compared."""

    @property
    def method(self) -> str:
        """Name of the method."""

    @property
    def seed(self) -> int:
        """Seed of the run."""

    @property
    def scores(self) -> Scores | None:
        """What :func:`~cellweave.evaluation.running` gave; ``None`` when the run failed."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def peak_bytes(self) -> int:
        """Peak memory."""

    @property
    def failure(self) -> str:
        """Why the run failed; empty when it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One run of one method with one seed."""

    method: str
    seed: int
    scores: Scores | None
    seconds: float
    peak_bytes: int
    failure: str = ""


def compare_table(runs: Sequence[RunLike]) -> tuple[Scores, str]:
    """Return medians over seeds, with the spread in each note, and a recommendation.

    Methods are ordered best first by integration score. A method none of whose runs finished
    has values ``None`` and the reason. Two methods whose ranges over seeds overlap count as equal,
    and then the faster is recommended.
    """
    if not runs:
        msg = "There are no runs to compare. Give at least one."
        raise DataError(msg)
    methods = list(dict.fromkeys(run.method for run in runs))
    by_method = {m: [r for r in runs if r.method == m] for m in methods}
    quality = {m: _values(by_method[m], "integration_score") for m in methods}
    order = sorted(methods, key=lambda m: -np.median(quality[m]) if quality[m] else np.inf)
    names = [n for n in _QUALITY if any(_values(runs_of, n) for runs_of in by_method.values())]
    items = [
        _cell(method, metric, by_method[method]) for method in order for metric in (*names, *_COST)
    ]
    best, text = _recommend(order, quality, by_method)
    summary = {"order": order, "best": best, "recommendation": text}
    return Scores(items=tuple(items), summary=summary), text


def _values(runs: Sequence[RunLike], metric: str) -> list[float]:
    found = []
    for run in runs:
        if run.scores is None:
            continue
        if metric == "seconds":
            found.append(float(run.seconds))
        elif metric == "peak_gb":
            found.append(run.peak_bytes / 1e9)
        elif metric == "integration_score":
            value = run.scores.summary.get("integration_score")
            found += [float(value)] if value is not None else []
        else:
            found += [
                s.value
                for s in run.scores.items
                if s.metric == metric and not s.group and s.value is not None
            ]
    return found


def _cell(method: str, metric: str, runs: Sequence[RunLike]) -> Score:
    fixed = _like(metric, runs)
    values = _values(runs, metric)
    if not values:
        reason = next((r.failure for r in runs if r.failure), "not measured")
        return Score(metric=metric, value=None, method=method, note=reason, **fixed)  # type: ignore[arg-type]
    failed = sum(bool(r.failure) for r in runs)
    note = f"{len(values)} seeds, {min(values):.4g} to {max(values):.4g}"
    note += f"; {failed} of {len(runs)} runs failed" if failed else ""
    return Score(metric=metric, value=float(np.median(values)), method=method, note=note, **fixed)  # type: ignore[arg-type]


def _like(metric: str, runs: Sequence[RunLike]) -> dict[str, object]:
    if metric in _COST:
        return {"higher_is_better": False}
    for run in runs:
        for score in run.scores.items if run.scores else ():
            if score.metric == metric and not score.group:
                return {
                    "higher_is_better": score.higher_is_better,
                    "best": score.best,
                    "chance": score.chance,
                }
    return {"higher_is_better": metric != "foscttm", "best": float(metric != "foscttm")}


def _recommend(
    order: Sequence[str],
    quality: dict[str, list[float]],
    by_method: dict[str, list[RunLike]],
) -> tuple[str | None, str]:
    able = [m for m in order if quality[m]]
    if not able:
        return None, "No method finished: see the reasons in the table and mend the data first."
    leader = able[0]
    equal = [m for m in able if max(quality[m]) >= min(quality[leader])]
    best = min(equal, key=lambda m: (np.median(_values(by_method[m], "seconds")), m))
    score, seconds = np.median(quality[best]), np.median(_values(by_method[best], "seconds"))
    text = f"Take {best}: integration score {score:.2f} (1 is perfect) in {seconds:.3g} s."
    others = [m for m in equal if m != best]
    if others:
        text += f" {', '.join(others)} did as well within the spread over seeds, but slower."
    behind = [f"{m} {np.median(quality[m]):.2f}" for m in able if m not in equal]
    text += f" Behind: {', '.join(behind)}." if behind else ""
    failed = [m for m in order if not quality[m]]
    text += f" Did not finish: {', '.join(failed)}." if failed else ""
    verdicts = [r.scores.summary.get("verdict") for r in by_method[best] if r.scores]
    if "poor" in verdicts:
        text += " But even this result is poor: do not build on it."
    elif "unknown" in verdicts:
        text += " Cell types or known pairs were not given, and without them this proves little."
    return best, text
