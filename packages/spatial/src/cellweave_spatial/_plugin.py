"""What cellweave-spatial offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import FeatureLinks, LinkRequest

cellweave_api_version = 1


@hookimpl
def cellweave_modalities() -> Iterable[ComponentSpec]:
    """Offer the spatial modality."""
    yield ComponentSpec(
        name="spatial",
        target="cellweave_spatial.modality:SpatialModality",
        summary="Genes with a place in the tissue: neighbours, density, image patches.",
        modalities=("spatial",),
    )


@hookimpl
def cellweave_guess_modality(adata: AnnData) -> str | None:
    """Claim gene counts with coordinates."""
    from cellweave_spatial.modality import sureness

    return "spatial" if sureness(adata) >= 0.5 else None


@hookimpl
def cellweave_link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link genes in the tissue to genes of RNA by their names."""
    if "spatial" not in (request.source, request.target):
        return None
    from cellweave_spatial.links import link_features

    return link_features(request)
