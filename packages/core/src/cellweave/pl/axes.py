"""Axes of our own: object-oriented figures, one look, no pyplot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cellweave.pl.colours import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bare", "legend_outside", "legend_width", "new_axes", "plain", "short"]

_PER_COLUMN = 14  # names below one another in a legend


def new_axes(ax: Axes | None, *, width: float = 4.0, height: float = 3.2) -> Axes:
    """Return ``ax``, or the axes of a new figure that belongs to nobody else."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def bare(ax: Axes, title: str) -> Axes:
    """Strip an axes whose coordinates mean nothing: no ticks, no frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title:
        ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    return ax


def plain(ax: Axes, title: str) -> Axes:
    """Keep the left and lower frame, in a quiet colour."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=8, length=3)
    if title:
        ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    return ax


def legend_width(names: Iterable[str]) -> float:
    """Return the inches that :func:`legend_outside` needs beside the axes, about."""
    shown = [short(name) for name in names]
    columns = -(-len(shown) // _PER_COLUMN)
    return columns * (0.25 + 0.067 * max(map(len, shown), default=0))


def legend_outside(ax: Axes, colours: dict[str, str]) -> None:
    """Put a legend of dots at the right of the axes."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=c, label=short(name))
        for name, c in colours.items()
    ]
    ax.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handletextpad=0.2,
        labelspacing=0.35,
        ncols=-(-len(handles) // _PER_COLUMN),
    )


def short(name: str, limit: int = 24) -> str:
    """Shorten a long name, and keep ``$`` and ``_`` from being read as mathematics or hidden."""
    name = name if len(name) <= limit else name[: limit - 1] + "…"
    name = name.replace("$", r"\$")
    return " " + name if name.startswith("_") else name
