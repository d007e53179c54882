"""The page of a task: does it beat its baselines, in words, numbers and the picture that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave import pl
from cellweave.pl.axes import new_axes, plain
from cellweave.pl.colours import ACCENT, BAD, INK
from cellweave.reporting import Facts, Figure, Page, Section, Table
from cellweave.reporting.numbers import format_number
from cellweave_tasks.annotation import AnnotationTask
from cellweave_tasks.cross_modality import CrossModalityTask
from cellweave_tasks.embedding_pages import integration_figures
from cellweave_tasks.features import column_of
from cellweave_tasks.integration import IntegrationTask
from cellweave_tasks.perturbation import PerturbationTask
from cellweave_tasks.pictures import PICTURES, curve_figure, likeness_figure
from cellweave_tasks.side_by_side import number_of, side_by_side
from cellweave_tasks.spatial import SpatialTask

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.contracts import Task
    from cellweave.records import Score, Scores
    from cellweave.reporting.page import Verdict

__all__ = ["bench_page", "task_page"]

_MOST_UNITS = 6


def task_page(task: Task, test: AnnData, scores: Scores, *, split: str) -> Page:
    """Return the page of one run."""
    makers: dict[type, Callable[[Any, AnnData, Scores], tuple[Figure | Table, ...]]] = {
        AnnotationTask: _labels,
        SpatialTask: _labels,
        PerturbationTask: _responses,
        CrossModalityTask: _columns,
        IntegrationTask: integration_figures,
        **PICTURES,
    }
    draw = makers.get(type(task))
    figures = draw(task, test, scores) if draw else ()
    sections = [_numbers(scores.items, "The same scores for every method")]
    if figures:
        sections.insert(0, Section(title="What it predicts", blocks=figures))
    by_group = _groups(scores.items)
    if by_group is not None:
        sections.append(by_group)
    component = scores.provenance.component if scores.provenance else "task"
    return Page(
        title=f"{component} on {test.n_obs:,} cells",
        verdict=_verdict(scores),
        headline=str(scores.summary.get("headline", "")),
        sentences=(_about_split(task, split),),
        sections=tuple(sections),
        footer=scores.provenance.to_json() if scores.provenance else "",
    )


def bench_page(scores: Scores, *, task: str, split: str) -> Page:
    """Return the leaderboard of several methods."""
    ax = pl.metrics_table(scores.items, title="From chance to perfect")
    figure = Figure(name="leaderboard", title="Methods by metrics", canvas=ax.figure, wide=True)  # type: ignore[arg-type]
    by_seed = [("", str(text)) for text in scores.summary.get("headlines", ())]
    against = Section(
        title="Against the best baseline, by seed",
        blocks=(Facts(items=by_seed, names=False),),
        folded=True,
    )
    return Page(
        title=f"Benchmark of {task}",
        sections=(
            Section(title="Leaderboard", lead=_leader(scores, split), blocks=(figure,)),
            _numbers(scores.items, "Means and spread over seeds"),
            *((against,) if by_seed else ()),
        ),
        footer=scores.provenance.to_json() if scores.provenance else "",
    )


def _leader(scores: Scores, split: str) -> str:
    """Say who comes first by the first measure; ranked scores stand best first."""
    found = [s for s in scores.items if not s.group and s.value is not None]
    if not found:
        return "Nothing could be scored."
    first = found[0]
    n_methods = len({s.method for s in scores.items})
    return (
        f"Of {n_methods} methods {first.method} comes first by {first.metric}: {number_of(first)}, "
        f"split {split}."
    )


def _about_split(task: Task, split: str) -> str:
    if isinstance(task, IntegrationTask):
        return f"Split: {split}. No label was read before it was scored."
    return f"Split: {split}. Nothing of the test was in training."


def _verdict(scores: Scores) -> Verdict:
    value, low = (scores.summary.get(f"difference_{k}") for k in ("value", "low"))
    if value is None:
        return "unknown"
    if value <= 0:
        return "poor"
    return "good" if low is not None and low > 0 else "fair"


def _numbers(items: Sequence[Score], title: str) -> Section:
    header, rows = side_by_side(items)
    return Section(title=title, blocks=(Table(header=header, rows=rows),))


def _groups(items: Sequence[Score]) -> Section | None:
    rows = [
        (s.group.removeprefix("unit:"), s.metric, s.method, format_number(s.value))
        for s in items
        if s.group
    ]
    if not rows:
        return None
    header = ("Group", "Measure", "Method", "Value")
    return Section(title="By group", blocks=(Table(header=header, rows=rows),), folded=True)


def _labels(task: Any, test: AnnData, scores: Scores) -> tuple[Figure, ...]:
    truth = column_of(test, task.label_key)
    given = np.asarray(task.predict(test).values, dtype=str)
    known = truth != ""
    ax = pl.confusion(truth[known], given[known], title="% of each row")
    figures = [
        Figure(
            name="confusion",
            title="Which is taken for which",
            canvas=ax.figure,  # type: ignore[arg-type]
            look_for="A row is a true label, a column what was said. Good: a dark diagonal.",
        )
    ]
    if isinstance(task, AnnotationTask):
        is_new = ~np.isin(truth, task.classes)
        if 0 < is_new.sum() < len(is_new):
            curves = {task.name: (is_new, task.novelty(test))}
            figures.append(curve_figure(curves, name="novelty", title="Cells of new types found"))
    if isinstance(task, SpatialTask):
        places = np.asarray(test.obsm[task.spatial_key])[:, :2]
        told = np.where(known, truth, "unknown")
        colours = pl.palette(sorted({*told.tolist(), *given.tolist()}))
        for name, values in (("truth", told), ("predicted", given)):
            ax = pl.spatial_map(places, color=values, colours=colours, title=name)
            figures.append(Figure(name=f"map-{name}", title=f"Regions, {name}", canvas=ax.figure))  # type: ignore[arg-type]
    return tuple(figures)


def _responses(task: PerturbationTask, test: AnnData, scores: Scores) -> tuple[Figure, ...]:
    figures = []
    for i, change in enumerate(task.changes(test)[:_MOST_UNITS]):
        ax = new_axes(None, width=3.6, height=3.4)
        ax.axline((0, 0), slope=1, color=INK, lw=0.6)
        ax.scatter(change.true, change.predicted, s=4, color=ACCENT, lw=0, rasterized=True)
        ax.scatter(change.true[change.top], change.predicted[change.top], s=14, color=BAD, lw=0)
        ax.set_xlabel("measured change", fontsize=9, color=INK)
        ax.set_ylabel("predicted change", fontsize=9, color=INK)
        plain(ax, change.name)
        figures.append(
            Figure(
                name=f"change-{i}",
                title=change.name,
                canvas=ax.figure,  # type: ignore[arg-type]
                look_for="One dot a gene, the 20 most changed in red. Good: dots on the line.",
            )
        )
    by_likeness = likeness_figure(scores, own=task.name, rival="mean")
    return tuple(figures if by_likeness is None else [by_likeness, *figures])


def _columns(task: CrossModalityTask, test: AnnData, scores: Scores) -> tuple[Figure, ...]:
    own = {
        s.group: max(s.value, 0.0)
        for s in scores.items
        if s.metric == "pearson" and s.method == task.name and s.group and s.value is not None
    }
    ax = pl.worst_types(own, most=20, title="Correlation, worst on top")
    return (Figure(name="columns", title="How well each is predicted", canvas=ax.figure),)  # type: ignore[arg-type]
