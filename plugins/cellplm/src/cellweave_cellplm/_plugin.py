"""What cellweave-cellplm offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of CellPLM's checkpoints."""
    yield ComponentSpec(
        name="cellplm",
        target="cellweave_cellplm.model:CellplmModel",
        summary="CellPLM: cells as tokens of one sequence, a Flowformer, its checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
