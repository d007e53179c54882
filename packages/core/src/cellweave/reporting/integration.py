"""The report of an integration: builds the sections; how they look is the page's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.reporting.cells import ShownCells, shown_cells
from cellweave.reporting.numbers import metric_section, tiles
from cellweave.reporting.page import Page, Verdict, write_figures, write_page
from cellweave.reporting.pictures import (
    alone_section,
    confusion_section,
    doubt_section,
    history_section,
    map_section,
    match_section,
    shown_points,
    worst_section,
)
from cellweave.reporting.record import advice_section, data_section, provenance_section
from cellweave.reporting.regulation import links_section

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData

    from cellweave.records import FeatureLinks, IntegrationResult, Scores

__all__ = ["integration_page", "save_figures", "write_report"]

_NOT_SCORED = "Not judged: no scores were given. Run `cellweave evaluate` to know."


def write_report(
    path: str | Path,
    *,
    mdata: MuData,
    result: IntegrationResult | None = None,
    scores: Scores | None = None,
    links: Sequence[FeatureLinks] | pd.DataFrame | None = None,
    title: str | None = None,
    use_rep: str | None = None,
    label_key: str | None = None,
    batch_key: str | None = None,
    seed: int = 0,
) -> None:
    """Write one self-contained HTML file; the same inputs give the same bytes.

    Parameters
    ----------
    path
        Where to write.
    mdata
        The data that were integrated; not changed.
    result
        What the integrator gave.
    scores
        What ``evaluate`` gave.
    links
        Feature links; those between genes and regions are drawn on the genome. Or a table with
        ``source``, ``target`` and ``score`` or ``weight``, as regulatory inference gives.
    title
        Of the page.
    use_rep
        The ``obsm`` key, when there is no ``result``.
    label_key, batch_key
        ``obs`` columns; those that the scores were made with, else ``cell_type`` and ``batch``.
    seed
        Of the layout.
    """
    page = integration_page(
        mdata=mdata, result=result, scores=scores, links=links, title=title, use_rep=use_rep,
        label_key=label_key, batch_key=batch_key, seed=seed,
    )  # fmt: skip
    write_page(path, page)


def save_figures(
    folder: str | Path,
    *,
    mdata: MuData,
    result: IntegrationResult | None = None,
    scores: Scores | None = None,
    links: Sequence[FeatureLinks] | pd.DataFrame | None = None,
    use_rep: str | None = None,
    label_key: str | None = None,
    batch_key: str | None = None,
    seed: int = 0,
    formats: Sequence[str] = ("png", "svg"),
) -> list[str]:
    """Write every figure of the report into a folder and return the file names.

    Parameters
    ----------
    folder
        A new folder, or one to replace.
    mdata, result, scores, links, use_rep, label_key, batch_key, seed
        As in :func:`write_report`.
    formats
        Any of ``png``, ``svg``, ``pdf``.
    """
    page = integration_page(
        mdata=mdata, result=result, scores=scores, links=links, use_rep=use_rep,
        label_key=label_key, batch_key=batch_key, seed=seed,
    )  # fmt: skip
    return write_figures(folder, page, formats=formats)


def integration_page(
    *,
    mdata: MuData,
    result: IntegrationResult | None = None,
    scores: Scores | None = None,
    links: Sequence[FeatureLinks] | pd.DataFrame | None = None,
    title: str | None = None,
    use_rep: str | None = None,
    label_key: str | None = None,
    batch_key: str | None = None,
    seed: int = 0,
) -> Page:
    """Build the page without writing it; parameters as in :func:`write_report`."""
    cells = shown_cells(
        mdata, result, scores, use_rep=use_rep, label_key=label_key, batch_key=batch_key
    )
    points = shown_points(cells, seed=seed)
    sections = (
        map_section(cells, points),
        alone_section(cells, points),
        metric_section(scores),
        confusion_section(cells, seed=seed),
        worst_section(scores),
        doubt_section(result, cells),
        match_section(result),
        history_section(result),
        links_section(mdata, result, links),
        advice_section(result, scores),
        data_section(mdata, cells, result),
        provenance_section(result, scores),
    )
    summary: Mapping[str, Any] = scores.summary if scores else {}
    return Page(
        title=title or _title(cells, result),
        sections=tuple(s for s in sections if s is not None),
        verdict=_verdict(summary),
        headline=str(summary.get("headline", _NOT_SCORED)),
        sentences=(*(str(s) for s in summary.get("sentences", ())), *_warnings(result)),
        tiles=tiles(scores),
        footer=_footer(),
    )


def _warnings(result: IntegrationResult | None) -> list[str]:
    """Return what the headline must not hide: cells that lie beside cells unlike them."""
    return [
        f"Careful: {100 * one.doubtful.mean():.0f} of 100 cells of {one.source} lie beside cells "
        f"of {one.target} that look unlike them (see “Cells to doubt”)."
        for one in (result.agreement if result else ())
        if one.doubtful.any()
    ]


def _verdict(summary: Mapping[str, Any]) -> Verdict:
    verdict = summary.get("verdict")
    return verdict if verdict in ("good", "fair", "poor") else "unknown"


def _title(cells: ShownCells, result: IntegrationResult | None) -> str:
    what = " + ".join(cells.embeddings)
    return f"{what} integrated by {result.provenance.component}" if result else f"{what} together"


def _footer() -> str:
    from cellweave import __version__

    return (
        f"Made by cellweave {__version__}. This file needs no network and no other file. "
        "Distances in UMAP pictures prove nothing; the numbers are measured in the embedding."
    )
