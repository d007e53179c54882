"""What cellweave-protein offers."""

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
        "ProtRankTokenizer",
        "The proteins of a cell in descending order of value over the usual value.",
        (),
    ),
    ("bins", "ProtBinTokenizer", "Each protein with its bin within the cell.", ("random",)),
    (
        "values",
        "ProtValueTokenizer",
        "Each protein with its normalised, logged value.",
        ("decode",),
    ),
)


@hookimpl
def cellweave_modalities() -> Iterable[ComponentSpec]:
    """Offer the protein modality."""
    yield ComponentSpec(
        name="prot",
        target="cellweave_protein.modality:ProteinModality",
        summary="Surface proteins by antibodies: CLR, DSB, markers and their genes.",
        modalities=("prot",),
    )


@hookimpl
def cellweave_tokenizers() -> Iterable[ComponentSpec]:
    """Offer the tokenizers of proteins."""
    for name, target, summary, tags in _TOKENIZERS:
        yield ComponentSpec(
            name=f"prot.{name}",
            target=f"cellweave_protein.tokenizers:{target}",
            summary=summary,
            modalities=("prot",),
            tags=frozenset({"fit", *tags}),
        )


@hookimpl
def cellweave_guess_modality(adata: AnnData) -> str | None:
    """Claim data whose features are antibodies."""
    from cellweave_protein.modality import sureness

    return "prot" if sureness(adata) >= 0.5 else None


@hookimpl
def cellweave_link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link proteins to their genes, or to the regions at those genes."""
    if "prot" not in (request.source, request.target):
        return None
    from cellweave_protein.links import link_features

    return link_features(request)
