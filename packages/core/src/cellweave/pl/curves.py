"""Curves and bars: what was optimised, how sure the matches are, which types fared worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.pl.axes import new_axes, plain, short
from cellweave.pl.colours import ACCENT, BAD, FAIR, GOOD, INK, MUTED, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cellweave.records import Matches

__all__ = ["losses", "match_scores", "worst_types"]


def losses(
    history: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw each quantity per epoch or round.

    Parameters
    ----------
    history
        Name to values, as in ``IntegrationResult.history``.
    names
        Which to draw; all when not given.
    title
        Above the picture.
    ax
        Where to draw.
    """
    chosen = {n: np.asarray(history[n], dtype=np.float64).ravel() for n in names or history}
    chosen = {n: v for n, v in chosen.items() if np.isfinite(v).any()}
    if not chosen:
        msg = "`history` holds no finite value. Give the history of a fitted integrator."
        raise DataError(msg)
    ax = new_axes(ax, width=4.8)
    for (name, values), colour in zip(chosen.items(), palette(list(chosen)).values()):
        style = "-" if len(values) > 1 else "o"
        ax.plot(np.arange(1, len(values) + 1), values, style, color=colour, lw=1.6,
                label=short(name, 30))  # fmt: skip
    ax.set_xlabel("epoch or round", fontsize=9, color=INK)
    if len(chosen) > 1:
        ax.legend(
            frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), labelcolor=INK
        )
    return plain(ax, title)


def match_scores(matches: Matches, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw how sure the matches of two modalities are, as a histogram with its median.

    Parameters
    ----------
    matches
        As in ``IntegrationResult.matches``.
    title
        Above the picture.
    ax
        Where to draw.
    """
    values = np.asarray(matches.scores, dtype=np.float64)
    if not len(values):
        msg = f"There is no match of {matches.source!r} and {matches.target!r}. Nothing to draw."
        raise DataError(msg)
    ax = new_axes(ax)
    ax.hist(values, bins=list(np.linspace(0, 1, 41)), color=ACCENT, alpha=0.85)
    median = float(np.median(values))
    ax.axvline(median, color=INK, lw=1)
    ax.annotate(
        f"median {median:.2f}", (median, 0.96), xycoords=("data", "axes fraction"),
        xytext=(4 if median < 0.6 else -4, 0), textcoords="offset points",
        ha="left" if median < 0.6 else "right", fontsize=8, color=INK,
    )  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_xlabel("match score (1 is surest)", fontsize=9, color=INK)
    ax.set_ylabel("matches", fontsize=9, color=INK)
    return plain(ax, title or f"{matches.source} to {matches.target}")


def worst_types(
    values: Mapping[str, float],
    *,
    chance: float | None = None,
    most: int = 12,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw types by how well they crossed over, worst on top.

    Parameters
    ----------
    values
        Type to a share in [0, 1].
    chance
        Where to draw the line of guessing.
    most
        Number of types shown.
    title
        Above the picture.
    ax
        Where to draw.
    """
    if not values:
        msg = "There is no type to draw. Evaluate with cell types first."
        raise DataError(msg)
    ranked = sorted(values.items(), key=lambda item: (item[1], item[0]))[:most]
    ax = new_axes(ax, width=4.6, height=0.7 + 0.26 * len(ranked))
    shares = np.array([v for _, v in ranked])
    colours = [GOOD if v >= 0.8 else FAIR if v >= 0.5 else BAD for v in shares]
    ax.barh(range(len(ranked)), shares, color=colours, height=0.7)
    for i, value in enumerate(shares):
        ax.text(value + 0.012, i, f"{100 * value:.0f} %", va="center", fontsize=8, color=INK)
    ax.set_yticks(range(len(ranked)), [short(name) for name, _ in ranked])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100 %"])
    if chance is not None:
        ax.axvline(chance, color=MUTED, lw=1, ls="--")
        ax.set_xlabel("share of cells (dashed: guessing)", fontsize=9, color=INK)
    return plain(ax, title)
