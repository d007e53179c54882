"""What cellweave-genemamba offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of GeneMamba's checkpoints."""
    yield ComponentSpec(
        name="genemamba",
        target="cellweave_genemamba.model:GenemambaModel",
        summary="GeneMamba: ranked genes, bidirectional Mamba-2 on any device, its checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
