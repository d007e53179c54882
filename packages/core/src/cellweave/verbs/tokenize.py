"""Turn cells into ragged tokens with a tokenizer chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cellweave.verbs.components import create

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens

__all__ = ["tokenize"]


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
