"""What cellweave-rna offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

if TYPE_CHECKING:
    from anndata import AnnData

cellweave_api_version = 1

_TOKENIZERS = {
    "rank": ("RankTokenizer", "Genes by value over median or mean, largest first.", ()),
    "bins": ("BinTokenizer", "Expressed genes with their bin within the cell.", ("random",)),
    "values": ("ValueTokenizer", "Expressed genes with log1p values; depth tokens.", ("decode",)),
    "fixed": ("FixedTokenizer", "Every gene of a fixed list, zeros included.", ("decode",)),
    "geneset": ("GeneSetTokenizer", "One token a gene set of a GMT file.", ("needs_file",)),
    "sentence": (
        "SentenceTokenizer",
        "Gene names by falling expression, as words.",
        ("decode", "random"),
    ),
    "cell": ("CellTokenizer", "A cell is one token of its sample's sequence.", ()),
    "chromosome": (
        "ChromosomeTokenizer",
        "Genes drawn by expression, laid out along chromosomes.",
        ("random", "needs_coordinates"),
    ),
    "unique": ("UniqueTokenizer", "The genes that few other cells express.", ("random",)),
}


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
def cellweave_tokenizers() -> Iterable[ComponentSpec]:
    """Offer the ways of turning gene expression into tokens."""
    for name, (attribute, summary, tags) in _TOKENIZERS.items():
        yield ComponentSpec(
            name=f"rna.{name}",
            target=f"cellweave_rna.tokenizers:{attribute}",
            summary=summary,
            modalities=("rna",),
            tags=frozenset({"fit", *tags}),
        )


@hookimpl
def cellweave_guess_modality(adata: AnnData) -> str | None:
    """Say ``"rna"`` when the feature names are those of genes."""
    from cellweave_rna.modality import guess_rna

    return "rna" if guess_rna(adata) > 0.5 else None
