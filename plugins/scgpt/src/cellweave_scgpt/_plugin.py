"""What cellweave-scgpt offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of scGPT's checkpoints."""
    yield ComponentSpec(
        name="scgpt",
        target="cellweave_scgpt.model:ScgptModel",
        summary="scGPT: binned expression, transformer without flash kernels, its checkpoints.",
        modalities=("rna",),
        requires=("torch", "safetensors"),
    )
