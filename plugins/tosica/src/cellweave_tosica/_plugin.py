"""What cellweave-tosica offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of TOSICA's checkpoints."""
    yield ComponentSpec(
        name="tosica",
        target="cellweave_tosica.model:TosicaModel",
        summary="TOSICA: cells as pathway tokens, its transformer, the projects it saves.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
