"""The pictures of a report: maps of cells, confusion, worst types, matches, training curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from cellweave import pl
from cellweave.errors import DataError
from cellweave.evaluation.transfer import transfer
from cellweave.pl.axes import bare, legend_outside, legend_width, new_axes
from cellweave.pl.scatter import draw_dots, frame_around
from cellweave.reporting.cells import ShownCells
from cellweave.reporting.page import Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cellweave.records import Agreement, IntegrationResult, Scores

__all__ = [
    "alone_section",
    "confusion_section",
    "doubt_section",
    "history_section",
    "map_section",
    "match_section",
    "shown_points",
    "worst_section",
]

_MOST_CURVES = 12
_WIDE_LEGEND = 2.4  # inches
_MOST_ASKED = 20_000


def _figure(
    name: str, title: str, draw: Callable[[Axes], Axes], *, look_for: str = "", wide: bool = False,
    width: float = 4.6, height: float = 3.4,
) -> Figure:  # fmt: skip
    ax = draw(new_axes(None, width=width, height=height))
    return Figure(name=name, title=title, canvas=ax.figure, look_for=look_for, wide=wide)  # type: ignore[arg-type]


def shown_points(cells: ShownCells, *, seed: int) -> np.ndarray:
    """Return the coordinates that all maps of the page share."""
    stacked = np.concatenate([cells.embeddings[m][rows] for m, rows in cells.rows.items()])
    return pl.layout(stacked, seed)


def alone_section(cells: ShownCells, points: np.ndarray) -> Section | None:
    """Return each modality on its own, over the others in grey, by type."""
    if cells.types is None or len(cells.embeddings) < 2:
        return None
    figures = tuple(_alone(m, points, cells) for m in cells.embeddings)
    lead = "Good: each colour lies in the same place in every picture."
    return Section(title="The same types in the same places", lead=lead, blocks=figures)


def map_section(cells: ShownCells, points: np.ndarray) -> Section:
    """Return the UMAPs side by side: modality, type, batch and match score."""
    figures = [
        _map(
            "umap-modality", "Modality", points, cells, cells.modality,
            "Good: the colours lie over one another. Poor: each has an island of its own.",
        )
    ]  # fmt: skip
    if cells.types is not None:
        figures.append(
            _map(
                "umap-type", "Cell type", points, cells, cells.types,
                "Good: one region for each colour. Poor: colours lie over one another.",
            )
        )  # fmt: skip
    if cells.batches is not None:
        figures.append(
            _map(
                "umap-batch", "Batch", points, cells, cells.batches,
                "Good: the colours lie over one another.",
            )
        )  # fmt: skip
    if cells.match_score is not None:
        figures.append(
            _map(
                "umap-match-score", "Match score", points, cells, cells.match_score,
                "How sure a cell's match is; grey cells have none. Trust dark regions less.",
            )
        )  # fmt: skip
    if cells.agreement is not None:
        figures.append(
            _map(
                "umap-agreement", "Agreement of linked features", points, cells, cells.agreement,
                "1: a cell's linked features are those of the cells of the other modality beside "
                "it; 0: chance. A dark region may be a type that the other modality lacks.",
            )
        )  # fmt: skip
    n_shown = len(points)
    lead = f"UMAP of the joint embedding, {n_shown:,} cells."
    if n_shown < cells.n_cells:
        lead = (
            f"UMAP of the joint embedding: {n_shown:,} of {cells.n_cells:,} cells, drawn at random."
        )
    return Section(title="Do the cells meet", lead=lead, blocks=tuple(figures))


def _map(
    name: str,
    title: str,
    points: np.ndarray,
    cells: ShownCells,
    values: np.ndarray,
    look_for: str,
) -> Figure:
    is_number = np.issubdtype(values.dtype, np.number)
    colours = None if is_number else cells.colours(values)
    shown = None if colours is None else {(n or "unknown"): c for n, c in colours.items()}
    named = values if is_number else np.where(values == "", "unknown", values)

    def draw(ax: Axes) -> Axes:
        return pl.umap(points, color=named, colours=shown, title=title, ax=ax)

    return _beside_legend(name, title, draw, shown or (), look_for=look_for)


def _beside_legend(
    name: str, title: str, draw: Callable[[Axes], Axes], names: Iterable[str], look_for: str = ""
) -> Figure:
    """Make room for the legend; one with many names takes a whole row of the page."""
    room = max(legend_width(names), 1.0)
    wide = room > _WIDE_LEGEND
    return _figure(name, title, draw, look_for=look_for, wide=wide, width=3.6 + room)


def _alone(modality: str, points: np.ndarray, cells: ShownCells) -> Figure:
    """Draw one modality in colour over the others in grey, colours as in the picture of types."""
    assert cells.types is not None
    own = cells.modality == modality
    colours = cells.colours(cells.types)
    present = {n or "unknown": c for n, c in colours.items() if n in set(cells.types[own])}

    def draw(ax: Axes) -> Axes:
        draw_dots(ax, points[~own], np.full((~own).sum(), "other", dtype=object),
                  colours={"other": "#e4e7eb"}, legend=False)  # fmt: skip
        named = np.where(cells.types[own] == "", "unknown", cells.types[own])  # type: ignore[index]
        draw_dots(ax, points[own], named, colours=present, legend=False)
        frame_around(ax, points)
        legend_outside(ax, present)
        return bare(ax, f"{modality} alone, by type")

    return _beside_legend(f"umap-type-{_slug(modality)}", f"{modality} by type", draw, present)


def confusion_section(cells: ShownCells, *, seed: int) -> Section | None:
    """Return which type each cell received from its nearest cell of another modality."""
    figures = []
    rng = np.random.default_rng(seed)
    for source, target in combinations(sorted(cells.labels), 2):
        rows = np.arange(len(cells.embeddings[target]))
        if len(rows) > _MOST_ASKED:
            rows = np.sort(rng.choice(rows, _MOST_ASKED, replace=False))
        try:
            moved = transfer(
                cells.embeddings[source], cells.labels[source],
                cells.embeddings[target][rows], cells.labels[target][rows], seed=seed,
            )  # fmt: skip
        except DataError:
            continue
        ax = pl.confusion(moved.true, moved.given, title=f"{source} → {target}, % of each row")
        figures.append(
            Figure(
                name=f"confusion-{_slug(source)}-{_slug(target)}",
                title=f"Label transfer {source} to {target}",
                canvas=ax.figure,  # type: ignore[arg-type]
                look_for=f"Each {target} cell took the type of its nearest {source} cell. "
                + _what_is_good(moved.true, moved.given),
            )
        )
    if not figures:
        return None
    lead = "A row is a true type; a column the type received from the other modality."
    return Section(title="Which types are taken for which", lead=lead, blocks=tuple(figures))


def _what_is_good(true: np.ndarray, given: np.ndarray) -> str:
    if set(true) & set(given):
        return "Good: a dark diagonal."
    return "Types are named differently on the two sides. Good: one dark cell a row, of its kind."


def worst_section(scores: Scores | None) -> Section | None:
    """Return the types that crossed over worst."""
    if scores is None:
        return None
    found = [s for s in scores.items if s.metric == "label_transfer" and s.value is not None]
    shares = {
        s.group[5:]: s.value for s in found if s.group.startswith("type:") and s.value is not None
    }
    if not shares:
        return None
    chance = next((s.chance for s in found if not s.group), None)
    ax = pl.worst_types(shares, chance=chance, title="Cells that meet their own type")
    figure = Figure(
        name="worst-types",
        title="Types by how well they are matched",
        canvas=ax.figure,  # type: ignore[arg-type]
        look_for="Share of each type's cells whose nearest cell in another modality is of the "
        "same type; worst on top.",
    )
    low = [name for name, value in sorted(shares.items(), key=lambda i: i[1]) if value < 0.5]
    lead = (
        f"Do not trust single cells of: {', '.join(low)}."
        if low
        else ("Every type meets itself in at least half of its cells.")
    )
    return Section(title="Worst-matched types", lead=lead, blocks=(figure,))


def doubt_section(result: IntegrationResult | None, cells: ShownCells) -> Section | None:
    """Return which cells stand apart by their linked features, and of which types they are."""
    doubted = [one for one in result.agreement if one.doubtful.any()] if result else []
    if not doubted:
        return None
    table = Table(
        title="Cells whose linked features disagree with those beside them",
        header=("cells of", "beside", "how many", "agreement", "best there is", "mostly"),
        rows=[_doubted(one, cells.labels.get(one.source)) for one in doubted],
    )
    lead = (
        "These cells lie beside cells that look unlike them. Where the best there is is no better, "
        "the other modality may lack their type: leave them out of what you conclude."
    )
    return Section(title="Cells to doubt", lead=lead, blocks=(table,))


def _doubted(one: Agreement, labels: np.ndarray | None) -> tuple[str, ...]:
    at = one.doubtful
    mostly = ""
    if labels is not None:
        names, counts = np.unique(labels[at].astype(str), return_counts=True)
        order = np.argsort(-counts, kind="stable")[:3]
        mostly = ", ".join(f"{names[i]} {counts[i] / at.sum():.0%}" for i in order)
    return (
        one.source,
        one.target,
        f"{at.sum():,} ({at.mean():.0%})",
        f"{np.median(one.scores[at]):.2f}",
        f"{np.median(one.best[at]):.2f}",
        mostly or "types not given",
    )


def match_section(result: IntegrationResult | None) -> Section | None:
    """Return how sure the matches are, one picture for each two modalities."""
    if result is None:
        return None
    figures = [
        _figure(
            f"match-scores-{_slug(m.source)}-{_slug(m.target)}",
            f"Match scores {m.source} to {m.target}",
            lambda ax, m=m: pl.match_scores(m, ax=ax),  # type: ignore[misc]
            look_for=f"{len(m.scores):,} matches. Good: most lie towards 1.",
            height=2.6,
        )
        for m in result.matches
        if len(m.scores)
    ]
    if not figures:
        return None
    return Section(title="How sure are the matches", blocks=tuple(figures))


def history_section(result: IntegrationResult | None) -> Section | None:
    """Return each quantity that was followed while fitting, one small picture each."""
    if result is None:
        return None
    names = [
        n for n, v in result.history.items()
        if len(np.ravel(v)) > 1 and np.isfinite(np.asarray(v, dtype=np.float64)).any()
    ]  # fmt: skip
    if not names:
        return None
    figures = [
        _figure(
            f"history-{i:02d}-{_slug(name)}",
            f"{name} per epoch or round",
            lambda ax, name=name: pl.losses(result.history, names=[name], title=name, ax=ax),  # type: ignore[misc]
            width=3.6,
            height=2.2,
        )
        for i, name in enumerate(names[:_MOST_CURVES])
    ]
    lead = "Good: curves level off. Still falling at the end: train longer."
    if len(names) > _MOST_CURVES:
        lead += f" The first {_MOST_CURVES} of {len(names)} quantities are drawn."
    return Section(title="What was optimised", lead=lead, blocks=tuple(figures))


def _slug(name: str) -> str:
    """Make a file name of any name."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:40]
