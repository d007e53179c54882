"""What cellweave-metabolomics offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import FeatureLinks, LinkRequest

cellweave_api_version = 1

_TOKENIZERS = (
    (
        "rank",
        "MetabRankTokenizer",
        "The ions of a cell in descending order of value over the usual value.",
        (),
    ),
    ("bins", "MetabBinTokenizer", "Each ion with its bin within the cell.", ("random",)),
    ("values", "MetabValueTokenizer", "Each ion with its normalised, logged value.", ("decode",)),
)


@hookimpl
def cellweave_modalities() -> Iterable[ComponentSpec]:
    """Offer the metabolomics modality."""
    yield ComponentSpec(
        name="metab",
        target="cellweave_metabolomics.modality:MetabolomicsModality",
        summary="Ions of cells, spots or tissue images: imzML, exact masses, registration.",
        modalities=("metab",),
    )


@hookimpl
def cellweave_tokenizers() -> Iterable[ComponentSpec]:
    """Offer the tokenizers of ions."""
    for name, target, summary, tags in _TOKENIZERS:
        yield ComponentSpec(
            name=f"metab.{name}",
            target=f"cellweave_metabolomics.tokenizers:{target}",
            summary=summary,
            modalities=("metab",),
            tags=frozenset({"fit", *tags}),
        )


@hookimpl
def cellweave_guess_modality(adata: AnnData) -> str | None:
    """Claim data whose features are masses or metabolites."""
    from cellweave_metabolomics.modality import sureness

    return "metab" if sureness(adata) >= 0.5 else None


@hookimpl
def cellweave_link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link metabolites to genes through the user's reactions or pathways."""
    if "metab" not in (request.source, request.target):
        return None
    from cellweave_metabolomics.links import link_features

    return link_features(request)
