"""What cellweave-scbert offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of scBERT's checkpoints."""
    yield ComponentSpec(
        name="scbert",
        target="cellweave_scbert.model:ScbertModel",
        summary="scBERT: binned expression of a fixed list of genes, a Performer, its checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
