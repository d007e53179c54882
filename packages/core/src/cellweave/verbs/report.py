"""Write one self-contained page about an integration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, IntegrationResult, Scores

__all__ = ["report", "report_preparation"]


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


def report_preparation(
    path: str | Path,
    *,
    raw: MuData,
    prepared: MuData,
    title: str | None = None,
    label_key: str = "cell_type",
    batch_key: str = "batch",
    seed: int = 0,
) -> Path:
    """Write a page about a preparation: steps, quality of the cells, maps and tissue.

    Examples
    --------
    >>> import cellweave
    >>> raw = cellweave.datasets.simulate(n_cells=200, seed=0)
    >>> ready = cellweave.prepare(raw)  # doctest: +SKIP
    >>> cellweave.verbs.report.report_preparation(
    ...     "report.html", raw=raw, prepared=ready
    ... )  # doctest: +SKIP
    """
    from cellweave.reporting import write_preparation_report
    from cellweave.verbs.prepare import modality_of

    known = {name: modality_of(name) for name in prepared.mod}
    write_preparation_report(
        path,
        prepared=prepared,
        quality={name: modality.quality(raw.mod[name]) for name, modality in known.items()},
        representations={name: modality.representation for name, modality in known.items()},
        title=title,
        label_key=label_key,
        batch_key=batch_key,
        seed=seed,
    )
    return Path(path)
