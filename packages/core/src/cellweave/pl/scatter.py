"""Cells as dots: categories in colours that stay apart, numbers on a scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave.pl.axes import bare, legend_outside, legend_width, new_axes
from cellweave.pl.colours import MISSING, MUTED, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["dot_size", "draw_dots", "frame_around", "umap"]


def umap(
    cells: Any,
    *,
    color: Any = None,
    use_rep: str | None = None,
    title: str = "",
    colours: Mapping[str, str] | None = None,
    legend: bool = True,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw cells by two coordinates.

    Parameters
    ----------
    cells
        ``(n, 2)`` coordinates; an array with more columns is laid out first; or a MuData whose
        modalities hold ``obsm[use_rep]``.
    color
        One value a cell: names become categories, numbers a scale. For a MuData also the name of
        an ``obs`` column, or ``"modality"``.
    use_rep
        The ``obsm`` key, for a MuData.
    title
        Above the picture.
    colours
        Name to colour, where the choice is not to be ours.
    legend
        Whether to draw legend or colour bar.
    seed
        Of the layout.
    ax
        Where to draw.
    """
    points, values = _points_and_values(cells, color, use_rep)
    if points.shape[1] != 2:
        from cellweave.pl.plane import layout

        points = layout(points, seed)
    if values is not None and len(values) != len(points):
        msg = f"`color` has {len(values)} values for {len(points)} cells. Expected one each."
        raise DataError(msg)
    if is_names := values is not None and not np.issubdtype(values.dtype, np.number):
        colours = colours or palette(sorted({str(v) for v in np.asarray(values, dtype=object)}))
    beside = legend_width(colours or ()) if legend and is_names else 0.8
    ax = new_axes(ax, width=3.6 + beside)
    draw_dots(ax, points, values, colours=colours, legend=legend)
    frame_around(ax, points)
    return bare(ax, title)


def frame_around(ax: Axes, points: np.ndarray) -> None:
    """Fill the axes with the cells; a long thin cloud keeps some of its shape."""
    low, high = points.min(axis=0), points.max(axis=0)
    half, centre = (high - low) / 2, (high + low) / 2
    half = 1.05 * np.maximum(np.maximum(half, 0.4 * half.max()), 1e-6)
    ax.set_xlim(centre[0] - half[0], centre[0] + half[0])
    ax.set_ylim(centre[1] - half[1], centre[1] + half[1])


def dot_size(n: int) -> float:
    """Return a dot area that shows few cells as dots and many as a cloud."""
    return float(np.clip(14_000 / max(n, 1), 0.6, 36.0))


def draw_dots(
    ax: Axes,
    points: np.ndarray,
    values: np.ndarray | None,
    *,
    colours: Mapping[str, str] | None = None,
    legend: bool = True,
    size: float | None = None,
) -> None:
    """Scatter in a shuffled order, so that no group hides another."""
    order = np.random.default_rng(0).permutation(len(points))
    points = points[order]
    style: dict[str, Any] = {
        "s": dot_size(len(points)) if size is None else size,
        "linewidths": 0,
        "rasterized": True,
    }
    if values is None:
        ax.scatter(points[:, 0], points[:, 1], c=MUTED, alpha=0.7, **style)
        return
    values = np.asarray(values)[order]
    if np.issubdtype(values.dtype, np.number):
        _draw_numbers(ax, points, values, legend, style)
        return
    names = np.asarray(values, dtype=object).astype(str)
    chosen = dict(colours) if colours else palette(sorted(set(names)))
    dots = [chosen.get(name, MISSING) for name in names]
    ax.scatter(points[:, 0], points[:, 1], c=dots, alpha=0.8, **style)
    if legend:
        legend_outside(ax, chosen)


def _draw_numbers(
    ax: Axes, points: np.ndarray, values: np.ndarray, legend: bool, style: dict[str, Any]
) -> None:
    known = np.isfinite(values)
    ax.scatter(points[~known, 0], points[~known, 1], c=MISSING, **style)
    low, high = np.percentile(values[known], [1, 99]) if known.any() else (0.0, 1.0)
    dots = ax.scatter(
        points[known, 0], points[known, 1], c=values[known], cmap="viridis",
        vmin=low, vmax=high if high > low else low + 1.0, **style,
    )  # fmt: skip
    if legend and ax.figure is not None:
        bar = ax.figure.colorbar(dots, ax=ax, shrink=0.6, aspect=18, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)


def _points_and_values(
    cells: Any, color: Any, use_rep: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    if not hasattr(cells, "mod"):
        points = np.asarray(cells, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] < 2:
            msg = f"Coordinates have shape {points.shape}. Expected two columns or more."
            raise DataError(msg)
        return points, None if color is None else np.asarray(color)
    found = {m: a for m, a in cells.mod.items() if use_rep in a.obsm}
    if not found:
        known = {key for a in cells.mod.values() for key in a.obsm}
        msg = (
            f"No modality has obsm[{use_rep!r}].{closest(str(use_rep), known)} "
            f"There are: {one_of(known)}. Set `use_rep`."
        )
        raise DataError(msg)
    points = np.concatenate([np.asarray(a.obsm[use_rep]) for a in found.values()])
    if not isinstance(color, str):
        return points, None if color is None else np.asarray(color)
    if color == "modality":
        return points, np.concatenate([np.full(a.n_obs, m, dtype=object) for m, a in found.items()])
    absent = [m for m, a in found.items() if color not in a.obs]
    if len(absent) == len(found):
        known = {str(c) for a in found.values() for c in a.obs.columns}
        msg = f"No modality has obs[{color!r}].{closest(color, known)} There are: {one_of(known)}."
        raise DataError(msg)
    parts = [
        np.asarray(a.obs[color].astype(object)) if m not in absent
        else np.full(a.n_obs, "", dtype=object)
        for m, a in found.items()
    ]  # fmt: skip
    values = np.concatenate(parts)
    is_number = not absent and all(a.obs[color].dtype.kind in "fiu" for a in found.values())
    return points, values.astype(np.float64) if is_number else values
