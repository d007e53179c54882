"""Tables as pictures: which type was taken for which, and metrics against what good looks like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.pl.axes import new_axes, plain, short
from cellweave.pl.colours import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cellweave.records import Score

__all__ = ["confusion", "metrics_table"]


def confusion(
    true: np.ndarray, given: np.ndarray, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw the share of each true type (row) that was given each label (column).

    Where hardly a name is both, types are named differently on the two sides: rows and columns
    then have their own names, columns in the order of the rows that they were given to.

    Parameters
    ----------
    true, given
        One label a cell.
    title
        Above the picture.
    ax
        Where to draw.
    """
    true, given = np.asarray(true).astype(str), np.asarray(given).astype(str)
    if len(true) != len(given) or not len(true):
        msg = (
            f"There are {len(true)} true and {len(given)} given labels. "
            "Expected one of each a cell."
        )
        raise DataError(msg)
    rows, columns, shares = _shares(true, given)
    ax = new_axes(ax, width=2.4 + 0.34 * len(columns), height=1.8 + 0.34 * len(rows))
    _heat(ax, shares, [short(n, 18) for n in rows], [short(n, 18) for n in columns], percent=True)
    ax.set_xlabel("label received", fontsize=9, color=INK)
    ax.set_ylabel("true type", fontsize=9, color=INK)
    return plain(ax, title)


def _shares(true: np.ndarray, given: np.ndarray) -> tuple[list[str], list[str], np.ndarray]:
    """Return row names, column names, and the share of each row in each column."""
    rows, columns = sorted(set(true)), sorted(set(given))
    speak_alike = 2 * len(set(rows) & set(columns)) >= len(columns)
    if speak_alike:
        rows = columns = sorted({*rows, *columns})
    at_row = {name: i for i, name in enumerate(rows)}
    at_column = {name: i for i, name in enumerate(columns)}
    counts = np.zeros((len(rows), len(columns)))
    np.add.at(counts, ([at_row[t] for t in true], [at_column[g] for g in given]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if not speak_alike:
        order = np.lexsort((-shares.max(axis=0), shares.argmax(axis=0)))
        shares, columns = shares[:, order], [columns[i] for i in order]
    return rows, columns, shares


def metrics_table(scores: Iterable[Score], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw methods against metrics: the colour is the way from chance to perfect.

    Parameters
    ----------
    scores
        Scores of one or more methods; those of the whole are shown.
    title
        Above the picture.
    ax
        Where to draw.
    """
    from cellweave.evaluation.verdict import GLOSSARY, rescaled

    whole = [s for s in scores if not s.group and rescaled(s) is not None]
    if not whole:
        msg = "No score has a value and a known best. Evaluate with labels or pairing first."
        raise DataError(msg)
    methods = list(dict.fromkeys(s.method for s in whole))
    metrics = list(dict.fromkeys(s.metric for s in whole))
    colour = np.full((len(metrics), len(methods)), np.nan)
    values = np.full(colour.shape, np.nan)
    for score in whole:
        at = metrics.index(score.metric), methods.index(score.method)
        colour[at], values[at] = rescaled(score), score.value
    ax = new_axes(ax, width=2.6 + 0.8 * len(methods), height=1.3 + 0.29 * len(metrics))
    rows = [GLOSSARY.get(m, (m, ""))[0] for m in metrics]
    _heat(ax, colour, rows, [short(m) for m in methods], shown=values)
    return plain(ax, title)


def _heat(
    ax: Axes,
    colour: np.ndarray,
    rows: list[str],
    columns: list[str],
    *,
    shown: np.ndarray | None = None,
    percent: bool = False,
) -> None:
    ax.imshow(colour, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto" if not percent else "equal")
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows)
    values = colour if shown is None else shown
    for i, j in np.argwhere(np.isfinite(values)):
        if percent and values[i, j] < 0.005:
            continue
        text = f"{100 * values[i, j]:.0f}" if percent else f"{values[i, j]:.3g}"
        ink = "white" if colour[i, j] > 0.55 else INK
        ax.text(j, i, text, ha="center", va="center", fontsize=7.5, color=ink)
