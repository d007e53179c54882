"""What cellweave-atac offers."""

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
    """Offer the ATAC modality."""
    yield ComponentSpec(
        name="atac",
        target="cellweave_atac.modality:AtacModality",
        summary="Chromatin accessibility: fragments and peaks, TF-IDF and LSI.",
        modalities=("atac",),
    )


@hookimpl
def cellweave_tokenizers() -> Iterable[ComponentSpec]:
    """Offer the ATAC tokenizers."""
    yield ComponentSpec(
        name="atac.patch",
        target="cellweave_atac.tokenizers:AtacPatchTokenizer",
        summary="Peaks in genomic order, cut into patches (scMamba, scPlantFormer, scCLIP).",
        modalities=("atac",),
        tags=frozenset({"fit", "decode"}),
    )
    yield ComponentSpec(
        name="atac.regions",
        target="cellweave_atac.tokenizers:AtacRegionTokenizer",
        summary="Open regions as a sequence by TF-IDF, largest first (EpiAgent).",
        modalities=("atac",),
        tags=frozenset({"fit", "stochastic"}),
    )


@hookimpl
def cellweave_guess_modality(adata: AnnData) -> str | None:
    """Claim data whose features are genomic regions."""
    from cellweave_atac.modality import sureness

    return "atac" if sureness(adata) >= 0.9 else None


@hookimpl
def cellweave_link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link genes to peaks by distance, or to gene activities by name."""
    if "atac" not in (request.source, request.target):
        return None
    from cellweave_atac.links import link_features

    return link_features(request)
