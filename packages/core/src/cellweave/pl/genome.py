"""Regulatory links as arcs along a chromosome, from the gene to its regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError
from cellweave.pl.axes import new_axes, short
from cellweave.pl.colours import ACCENT, BAD, INK, MUTED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["links_on_genome"]

_NEEDED = ("chrom", "chromStart", "chromEnd")


def links_on_genome(
    links: pd.DataFrame,
    genes: pd.DataFrame,
    regions: pd.DataFrame,
    *,
    gene: str,
    value: str = "weight",
    most: int = 30,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the links of one gene: an arc per region, thicker where stronger.

    Parameters
    ----------
    links
        Columns ``source`` (gene), ``target`` (region), ``value``, and ``sign`` where known.
    genes, regions
        ``var`` tables with ``chrom``, ``chromStart``, ``chromEnd`` (0-based, half-open) and, for
        genes, ``strand`` where known.
    gene
        Which gene.
    value
        Column that says how strong a link is; its size decides the thickness.
    most
        Number of links drawn, strongest first.
    title
        Above the picture.
    ax
        Where to draw.
    """
    _check_tables(genes, regions)
    own = links[links["source"].astype(str) == gene]
    own = own[own["target"].astype(str).isin(regions.index.astype(str))]
    if gene not in genes.index or own.empty:
        msg = f"Gene {gene!r} has no link to a known region. Choose a gene of the link table."
        raise DataError(msg)
    strength = own[value].abs().to_numpy(dtype=np.float64)
    top = np.argsort(-strength, kind="stable")[:most]
    own, strength = own.iloc[top], strength[top] / max(strength.max(), 1e-12)
    place: Any = genes.loc[gene]
    start, stop = float(place["chromStart"]), float(place["chromEnd"])
    forward = str(place.get("strand", "+")) != "-"
    promoter = start if forward else stop
    peaks = regions.loc[list(own["target"].astype(str)), list(_NEEDED)]
    is_here = (peaks["chrom"].astype(str) == str(place["chrom"])).to_numpy()
    own, strength, peaks = own[is_here], strength[is_here], peaks[is_here]
    signs = own["sign"].to_numpy(dtype=np.float64) if "sign" in own else np.sign(own[value])
    middle = (peaks["chromStart"] + peaks["chromEnd"]).to_numpy(dtype=np.float64) / 2
    ax = new_axes(ax, width=7.2, height=2.2)
    _draw_arcs(ax, promoter, middle, strength, np.asarray(signs))
    low, high = min(start, middle.min(initial=start)), max(stop, middle.max(initial=stop))
    _draw_track(ax, (start, stop), middle, (low, high), gene, forward)
    _finish(ax, (low, high), str(place["chrom"]), title)
    return ax


def _draw_arcs(
    ax: Axes, promoter: float, middle: np.ndarray, strength: np.ndarray, signs: np.ndarray
) -> None:
    turn = np.linspace(0, np.pi, 60)
    reach = max(np.abs(middle - promoter).max(initial=1.0), 1.0)
    for at, weight, sign in sorted(zip(middle, strength, signs), key=lambda item: item[1]):
        centre, radius = (at + promoter) / 2, (at - promoter) / 2
        height = 0.25 + 0.75 * abs(at - promoter) / reach
        ax.plot(
            centre - radius * np.cos(turn), height * np.sin(turn),
            color=ACCENT if sign >= 0 else BAD, lw=0.5 + 2.5 * weight,
            alpha=0.25 + 0.65 * weight, solid_capstyle="round",
        )  # fmt: skip


def _draw_track(
    ax: Axes,
    body: tuple[float, float],
    middle: np.ndarray,
    window: tuple[float, float],
    gene: str,
    forward: bool,
) -> None:
    width = max(window[1] - window[0], 1.0)
    ax.hlines(-0.08, *window, color=MUTED, lw=1)
    shown = max(body[1] - body[0], 0.004 * width)
    ax.broken_barh([(body[0], shown)], (-0.15, 0.14), color=INK)
    arrow = " →" if forward else "← "
    name = short(gene) + arrow if forward else arrow + short(gene)
    ax.text(body[0] + shown / 2, -0.2, name, ha="center", va="top", fontsize=9, color=INK,
            fontstyle="italic", fontweight="bold")  # fmt: skip
    bars = [(at - 0.002 * width, 0.004 * width) for at in middle]
    ax.broken_barh(bars, (-0.13, 0.1), color=ACCENT)


def _finish(ax: Axes, window: tuple[float, float], chrom: str, title: str) -> None:
    pad = 0.06 * max(window[1] - window[0], 1.0)
    ax.set_xlim(window[0] - pad, window[1] + pad)
    ax.set_ylim(-0.45, 1.08)
    ax.set_yticks([])
    for side in ("top", "left", "right"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=8, length=3)
    ax.locator_params(axis="x", nbins=6)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:.2f}")
    ax.set_xlabel(f"{short(chrom)} (Mb)", fontsize=9, color=INK)
    if title:
        ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)


def _check_tables(genes: pd.DataFrame, regions: pd.DataFrame) -> None:
    for name, table in (("genes", genes), ("regions", regions)):
        absent = [column for column in _NEEDED if column not in table]
        if absent:
            msg = (
                f"`{name}` lacks {', '.join(absent)}. Expected coordinates in `var`. "
                "Add them from a GTF when linking: `--gtf genes.gtf`."
            )
            raise DataError(msg)
