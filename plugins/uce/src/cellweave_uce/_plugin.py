"""What cellweave-uce offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of UCE's checkpoints."""
    yield ComponentSpec(
        name="uce",
        target="cellweave_uce.model:UceModel",
        summary="UCE: genes as protein vectors along chromosomes, a transformer, its checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
