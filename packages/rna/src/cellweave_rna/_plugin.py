"""What cellweave-rna offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

if TYPE_CHECKING:
    from anndata import AnnData

cellweave_api_version = 1


@hookimpl
def cellweave_modalities() -> Iterable[ComponentSpec]:
    """Offer RNA."""
    yield ComponentSpec(
        name="rna",
        target="cellweave_rna.modality:RnaModality",
        summary="Gene expression: 10x, h5ad, loom; quality, variable genes, components.",
        modalities=("rna",),
    )


@hookimpl
def cellweave_guess_modality(adata: AnnData) -> str | None:
    """Say ``"rna"`` when the feature names are those of genes."""
    from cellweave_rna.modality import guess_rna

    return "rna" if guess_rna(adata) > 0.5 else None
