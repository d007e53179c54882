"""Link the features of the modalities that meet in a MuData."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.plugins import get_plugin_manager

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks

__all__ = ["link"]


def link(
    mdata: MuData,
    *,
    genes: str | Path | None = None,
    table: str | Path | None = None,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[FeatureLinks, ...]:
    """Ask the installed packages which features of each pair of modalities belong together.

    With more than two modalities, a pair that nobody can link is passed over as long as the links
    that exist connect all modalities.

    Parameters
    ----------
    mdata
        The data; their ``var`` is read.
    genes
        GTF or coordinate table, for links by distance on the genome.
    table
        Your own table of links (columns source, target, and optionally weight and sign).
    method, parameters
        A way to link and its settings, where a modality offers several.

    Examples
    --------
    >>> import cellweave
    >>> mdata = cellweave.datasets.simulate(n_cells=100, seed=0)
    >>> links = cellweave.link(mdata)  # doctest: +SKIP
    """
    from cellweave.errors import DataError
    from cellweave.linking import link_pair

    manager = get_plugin_manager()
    found: list[FeatureLinks] = []
    refused: list[str] = []
    for source, target in combinations(mdata.mod, 2):
        try:
            found.append(
                link_pair(
                    mdata,
                    source,
                    target,
                    ask=manager.link_features,
                    genes=Path(genes) if genes else None,
                    table=Path(table) if table else None,
                    method=method,
                    parameters=dict(parameters or {}),
                )
            )
        except DataError as error:
            refused.append(str(error))
    if not _connects(list(mdata.mod), found):
        raise DataError(" ".join(refused) or "A single modality has nothing to be linked to.")
    return tuple(found)


def _connects(modalities: list[str], links: list[FeatureLinks]) -> bool:
    reached = {modalities[0]}
    for _ in modalities:
        for one in links:
            if len(one) and {one.source, one.target} & reached:
                reached |= {one.source, one.target}
    return reached == set(modalities) and len(modalities) > 1
