"""What cellweave-nicheformer offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of Nicheformer's checkpoints."""
    yield ComponentSpec(
        name="nicheformer",
        target="cellweave_nicheformer.model:NicheformerModel",
        summary="Nicheformer: ranked genes with species, assay and modality; spatial heads.",
        modalities=("rna", "spatial"),
        requires=("torch", "safetensors"),
    )
