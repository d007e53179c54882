"""Turn cells into ragged tokens with a tokenizer chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.verbs.components import create

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import Tokens
    from cellweave.tokenizing.streamed import TokenSummary

__all__ = ["tokenize", "tokenize_to"]


def tokenize(
    adata: AnnData, tokenizer: str, *, parameters: Mapping[str, Any] | None = None
) -> Tokens:
    """Fit the tokenizer on ``adata`` and return its tokens, in input order.

    Examples
    --------
    >>> import cellweave
    >>> cells = cellweave.datasets.simulate(n_cells=50, seed=0)["rna"]
    >>> tokens = cellweave.tokenize(cells, "rna.rank")  # doctest: +SKIP
    """
    made = create("tokenizer", tokenizer, **dict(parameters or {}))
    tokens: Tokens = made.fit(adata).encode(adata)
    return tokens


def tokenize_to(
    path: str | Path,
    adata: AnnData | MuData,
    tokenizer: str,
    *,
    parameters: Mapping[str, Any] | None = None,
) -> TokenSummary:
    """Fit the tokenizer on ``adata`` and write its tokens to an ``.npz``, block by block.

    A tokenizer of several modalities takes a MuData, in one piece.

    With data from ``cellweave.read(…, lazily=True)`` neither the cells nor their tokens need fit
    into memory.

    Examples
    --------
    >>> import cellweave
    >>> cells = cellweave.read("atlas.h5ad", lazily=True)["rna"]  # doctest: +SKIP
    >>> cellweave.verbs.tokenize.tokenize_to("tokens.npz", cells, "rna.rank")  # doctest: +SKIP
    """
    from anndata import AnnData

    from cellweave.data.lazy import blocks_of
    from cellweave.tokenizing.streamed import tokenize_to_file

    made = create("tokenizer", tokenizer, **dict(parameters or {}))
    if isinstance(adata, AnnData):
        return tokenize_to_file(made, lambda: blocks_of(adata), path)
    return tokenize_to_file(made, lambda: [adata], path)
