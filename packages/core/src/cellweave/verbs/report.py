"""Write one self-contained page about an integration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, IntegrationResult, Scores

__all__ = ["report"]


def report(
    path: str | Path,
    *,
    mdata: MuData,
    result: IntegrationResult | None = None,
    scores: Scores | None = None,
    links: Sequence[FeatureLinks] = (),
    title: str | None = None,
) -> Path:
    """Write ``report.html``: what was done, did it work, pictures, numbers, provenance.

    The page needs no network and no other file; every string that came from data is escaped.
    """
    from cellweave.reporting import write_report

    write_report(path, mdata=mdata, result=result, scores=scores, links=links, title=title)
    return Path(path)
