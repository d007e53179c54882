"""Quality measures of cells, one violin each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.pl.axes import new_axes, plain, short
from cellweave.pl.colours import ACCENT, INK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["qc_violins"]

_MOST_POINTS = 5_000


def qc_violins(
    quality: pd.DataFrame,
    column: str,
    *,
    by: np.ndarray | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    log: bool = False,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the spread of one quality measure, by group where groups are given.

    Parameters
    ----------
    quality
        One row a cell, as from ``Modality.quality``.
    column
        The measure.
    by
        A group name per cell, e.g. the batch.
    limits
        Where cells are, or would be, cut; drawn as lines.
    log
        Whether to draw ``log10(1 + value)``.
    title
        Above the picture.
    ax
        Where to draw.
    """
    if column not in quality:
        msg = f"There is no quality measure {column!r}. There are: {', '.join(map(str, quality))}."
        raise DataError(msg)
    values = quality[column].to_numpy(dtype=np.float64)
    groups = np.full(len(values), "") if by is None else np.asarray(by).astype(str)
    names = sorted(set(groups))
    if log:
        values = np.log10(1 + values)
    ax = new_axes(ax, width=1.6 + 0.7 * len(names))
    parts = [_thinned(values[(groups == name) & np.isfinite(values)]) for name in names]
    for i, part in enumerate(parts):
        _violin(ax, part, i)
    for limit in limits:
        if limit is not None:
            ax.axhline(np.log10(1 + limit) if log else limit, color=INK, lw=1, ls="--")
    shown = [] if names == [""] else names
    ax.set_xticks(range(len(shown)), [short(n, 14) for n in shown], rotation=30, ha="right")
    ax.set_ylabel(f"log10(1 + {short(column)})" if log else short(column), fontsize=9, color=INK)
    return plain(ax, title)


def _violin(ax: Axes, values: np.ndarray, at: int) -> None:
    if len(values) < 3 or np.ptp(values) == 0:  # no density to estimate
        ax.plot(np.full(len(values), at), values, "o", color=ACCENT, ms=3)
        return
    drawn = ax.violinplot([values], positions=[at], widths=0.8, showextrema=False)
    for body in drawn["bodies"]:  # type: ignore[attr-defined]
        body.set(facecolor=ACCENT, alpha=0.55, edgecolor="none")
    low, middle, high = np.percentile(values, [25, 50, 75])
    ax.plot([at, at], [low, high], color=INK, lw=3, solid_capstyle="butt")
    ax.plot([at], [middle], "o", color="white", mec=INK, ms=4)


def _thinned(values: np.ndarray) -> np.ndarray:
    if len(values) <= _MOST_POINTS:
        return values
    return np.random.default_rng(0).choice(values, _MOST_POINTS, replace=False)
