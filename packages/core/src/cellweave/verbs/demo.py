"""The main job, end to end, on data that the demo makes itself and whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind
from cellweave.verbs.evaluate import evaluate
from cellweave.verbs.integrate import integrate
from cellweave.verbs.link import link
from cellweave.verbs.prepare import prepare
from cellweave.verbs.read import write
from cellweave.verbs.report import report
from cellweave.verbs.validate import validate

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, ProgressCallback, Scores

__all__ = ["Demo", "demo"]

# Two minutes in all, on two cores: simulated types are distinct, two thirds of the training do.
_SHORTER = {"glue": {"progress": 1.0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What the demo made: the data file, and a report and scores per method."""

    data: Path
    reports: dict[str, Path]
    scores: dict[str, Scores]


def demo(
    folder: str | Path,
    *,
    n_cells: int = 600,
    methods: Sequence[str] | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    tell: Callable[[str], None] | None = None,
) -> Demo:
    """Simulate three modalities, validate, prepare, integrate with two methods, score, report.

    Parameters
    ----------
    folder
        Where the data and the reports go.
    n_cells
        Cells of each modality.
    methods
        Integrators; two that are installed when not given.
    seed
        Of the simulation and of the methods.
    progress, tell
        Called with progress, and with one sentence a step.
    """
    from cellweave.datasets import simulate

    folder, tell = Path(folder), tell or (lambda _: None)
    chosen = list(methods) if methods else _two_installed()
    raw = simulate(n_cells=n_cells, modalities=("rna", "atac", "prot"), batches=2, seed=seed)
    shapes = ", ".join(f"{n} {a.n_obs} × {a.n_vars}" for n, a in raw.mod.items())
    tell(f"simulated {shapes}; types, pairing and links are known")
    findings = validate(raw)
    tell(f"validated: {'ok' if findings.ok else 'not ok'}, {len(findings.findings)} findings")
    ready = prepare(raw, seed=seed, progress=progress)
    links = link(ready)
    tell("linked: " + ", ".join(f"{k.source}-{k.target} {len(k)}" for k in links))
    reports: dict[str, Path] = {}
    scores: dict[str, Scores] = {}
    for method in chosen:
        target = folder / f"report-{method}.html"
        scores[method] = _weave(ready, method, links, seed, target, progress)
        reports[method] = target
        tell(f"{method}: {_headline(scores[method])}; report: {target}")
    data = folder / "demo.h5mu"
    write(ready, data)
    return Demo(data=data, reports=reports, scores=scores)


def _two_installed() -> list[str]:
    registry = get_plugin_manager().registry(ComponentKind.INTEGRATOR)
    preferred = [n for n in ("maxfuse", "glue", "bindsc", "scmodal") if n in registry]
    return (preferred or list(registry))[:2]


def _weave(
    mdata: MuData,
    method: str,
    links: Sequence[FeatureLinks],
    seed: int,
    target: Path,
    progress: ProgressCallback | None,
) -> Scores:
    result = integrate(
        mdata, method, links=links, seed=seed, parameters=_SHORTER.get(method), progress=progress
    )
    key = f"X_{method}"
    result.write(mdata, key_added=key)
    scores = evaluate(mdata, use_rep=key, pairing="pairing", batch_key="batch", seed=seed)
    title = f"{method} on simulated RNA, ATAC and protein"
    report(target, mdata=mdata, result=result, scores=scores, links=links, title=title)
    return scores


def _headline(scores: Scores) -> str:
    wanted = ("foscttm", "label_transfer")
    found = [s for s in scores.items if s.metric in wanted and not s.group and s.value is not None]
    return ", ".join(f"{s.metric} {s.value:.3f}" for s in found) or "scored"
