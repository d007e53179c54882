"""What cellweave-geneformer offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of Geneformer's checkpoints."""
    yield ComponentSpec(
        name="geneformer",
        target="cellweave_geneformer.model:GeneformerModel",
        summary="Geneformer V1 and V2: rank-value tokens, BERT, published checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
