"""Run every metric that the data allow, and sum them up in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.evaluation.gather import gather
from cellweave.evaluation.verdict import summarise
from cellweave.records import Provenance, Score, Scores

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.contracts.metric import MetricInput
    from cellweave.registry import Component

__all__ = ["evaluate", "evaluate_input"]


def evaluate(
    mdata: MuData,
    *,
    use_rep: str,
    label_key: str | None = "cell_type",
    pairing: str | None = None,
    batch_key: str | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
) -> Scores:
    """Score the embedding ``obsm[use_rep]`` of every modality that has it.

    Parameters
    ----------
    mdata
        Data with the embedding in each modality; not changed.
    use_rep
        The ``obsm`` key.
    label_key
        ``obs`` column of cell types. Without it, what needs types has value ``None`` and says so.
    pairing
        ``"obs_names"`` when cells of equal name are one cell, the ``obs`` column of an id, or
        ``None``.
    batch_key
        ``obs`` column of batches.
    metrics
        Names such as ``"core.foscttm"`` or ``"foscttm"``; all installed ones when not given.
    seed
        For metrics that sample.

    Returns
    -------
    Scores with a ``summary``: ``integration_score`` in [0, 1], ``verdict`` (``good``, ``fair``,
    ``poor`` or ``unknown``), ``headline`` and ``sentences`` for people.
    """
    data, reasons = gather(
        mdata,
        use_rep=use_rep,
        label_key=label_key,
        pairing=pairing,
        batch_key=batch_key,
        seed=seed,
    )
    scores = evaluate_input(data, metrics=metrics, reasons=reasons)
    parameters = {
        "use_rep": use_rep,
        "label_key": label_key,
        "pairing": pairing,
        "batch_key": batch_key,
        "metrics": list(metrics) if metrics is not None else None,
    }
    return Scores(
        items=tuple(replace(s, method=s.method or use_rep, seed=seed) for s in scores),
        provenance=_provenance(parameters, seed),
        summary=summarise(scores),
    )


def evaluate_input(
    data: MetricInput,
    *,
    metrics: Sequence[str] | None = None,
    reasons: dict[str, str] | None = None,
) -> list[Score]:
    """Run metrics on arrays; ``reasons`` say why a field of ``data`` is empty."""
    scores: list[Score] = []
    for name, component in _chosen(metrics):
        scores += _run(name, component, data, reasons or {})
    return scores


def _chosen(metrics: Sequence[str] | None) -> Iterable[tuple[str, Component]]:
    from cellweave.plugins import get_plugin_manager
    from cellweave.records import ComponentKind

    components = get_plugin_manager().registry(ComponentKind.METRIC).components
    if metrics is None:
        return list(components.items())
    by_name = {short: name for name in components for short in (name.removeprefix("core."), name)}
    unknown = [m for m in metrics if m not in by_name]
    if unknown:
        hints = "".join(closest(m, by_name) for m in unknown)
        msg = (
            f"Metrics {unknown!r} are not known.{hints} There are: {one_of(components, limit=30)}."
        )
        raise ConfigError(msg)
    return [(by_name[m], components[by_name[m]]) for m in dict.fromkeys(metrics)]


def _run(
    name: str, component: Component, data: MetricInput, reasons: dict[str, str]
) -> Sequence[Score]:
    if missing := component.missing_modules():
        note = f"needs {', '.join(missing)}: pip install '{component.spec.install or missing[0]}'"
        return [Score(metric=name.removeprefix("core."), value=None, note=note)]
    metric: Any = component.load()()
    names: Sequence[str] = getattr(metric, "metrics", (name.removeprefix("core."),))
    absent = [field for field in metric.needs if not getattr(data, field)]
    if absent:
        note = "; ".join(reasons.get(f, f"no {f} are given") for f in absent)
        return [Score(metric=n, value=None, note=note) for n in names]
    try:
        return metric.compute(data)
    except DataError as error:  # what the data do not allow; anything else is a bug and is shown
        return [Score(metric=n, value=None, note=str(error)) for n in names]


def _provenance(parameters: dict[str, Any], seed: int) -> Provenance:
    from importlib.metadata import version

    from cellweave import __version__

    libraries = ("numpy", "numba", "scikit-learn", "scipy", "igraph")
    return Provenance(
        component="evaluate",
        version=__version__,
        parameters=parameters,
        seed=seed,
        versions={name: version(name) for name in libraries},
    )
