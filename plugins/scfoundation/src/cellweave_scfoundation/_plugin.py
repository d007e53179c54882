"""What cellweave-scfoundation offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of scFoundation's checkpoints."""
    yield ComponentSpec(
        name="scfoundation",
        target="cellweave_scfoundation.model:ScfoundationModel",
        summary="scFoundation: continuous expression of 19 264 genes with depth, its checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
