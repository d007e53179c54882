"""What cellweave-scmulan offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of scMulan's checkpoints."""
    yield ComponentSpec(
        name="scmulan",
        target="cellweave_scmulan.model:ScmulanModel",
        summary="scMulan: genes and bins as a sentence, a causal transformer, its checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
