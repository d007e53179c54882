"""Genes measured in the tissue are the genes measured out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.errors import DataError
from cellweave.linking import link_by_identity

if TYPE_CHECKING:
    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["link_features"]


def link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link genes of equal name or identifier; ``None`` when the pair is not RNA and spatial."""
    if {request.source, request.target} != {"rna", "spatial"}:
        return None
    if request.method is not None or request.table is not None:
        return None
    links = link_by_identity(request)
    if len(links) == 0:
        msg = (
            f"{request.source!r} and {request.target!r} share no gene: "
            f"{request.source_data.var_names[0]!r}, {request.target_data.var_names[0]!r}. Expected "
            "one naming. Add the other names as var['symbol'] or var['gene_ids'] on one side."
        )
        raise DataError(msg)
    return links
