"""One vector a cell, in input order, in bounded memory, cells of like length together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import ConfigError, DataError, NumericalError

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens

__all__ = ["by_length", "embed_by_length", "token_blocks"]

# Cells are tokenized in blocks of so many batches, so that memory does not grow with their number.
_BATCHES_IN_BLOCK = 32
# Fewer cells share a batch where they are long, so that memory does not grow with their length.
_MOST_TOKENS = 65_536


def embed_by_length(
    adata: AnnData,
    *,
    encode: Callable[[AnnData], Tokens],
    states: Callable[[Tokens], np.ndarray],
    batch_size: int,
    framing: int = 0,
) -> np.ndarray:
    """Return ``(n_cells, d)`` float32 in the order of ``adata``.

    Parameters
    ----------
    adata
        The cells.
    encode
        Gives the tokens of some cells, in their order.
    states
        Gives the vectors of some cells from their tokens.
    batch_size
        Most cells at a time; those of like length share a batch, fewer of them where they are long.
    framing
        Tokens of every cell that are no feature; a cell with no more than these is refused.
    """
    out: np.ndarray | None = None
    done = 0
    for tokens in token_blocks(adata, encode=encode, batch_size=batch_size, framing=framing):
        for rows in by_length(tokens, batch_size):
            found = states(tokens.take(rows))
            if out is None:
                out = np.empty((adata.n_obs, found.shape[1]), dtype=np.float32)
            out[done + rows] = found
        done += tokens.n_cells
    assert out is not None
    if not np.isfinite(out).all():
        row = int(np.argmin(np.isfinite(out).all(1)))
        msg = f"The vector of cell {str(adata.obs_names[row])!r} holds NaN or infinity. Check its "
        raise NumericalError(msg + "values, and the weights with `cellweave models check`.")
    return out


def token_blocks(
    adata: AnnData, *, encode: Callable[[AnnData], Tokens], batch_size: int, framing: int = 0
) -> Iterator[Tokens]:
    """Tokenize some cells at a time; cells without any known feature are refused."""
    if batch_size < 1:
        msg = f"batch_size is {batch_size}. Use at least 1."
        raise ConfigError(msg)
    if adata.n_obs == 0:
        msg = "There is no cell to embed. Give an AnnData with at least one."
        raise DataError(msg)
    if adata.n_vars == 0:
        msg = "The data have no feature. Give an AnnData with the genes in its columns."
        raise DataError(msg)
    size = batch_size * _BATCHES_IN_BLOCK
    for start in range(0, adata.n_obs, size):
        tokens = encode(adata[start : start + size])
        empty = tokens.obs_names[tokens.lengths <= framing]
        if len(empty):
            shown = ", ".join(map(repr, empty[:3].tolist()))
            msg = f"{len(empty)} cells have no feature that the model knows ({shown}). "
            raise DataError(msg + "Check the names of features, or filter these cells.")
        yield tokens


def by_length(tokens: Tokens, batch_size: int) -> Iterator[np.ndarray]:
    """Yield rows, cells of like length together, the longest first."""
    lengths = tokens.lengths
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = start + min(batch_size, max(_MOST_TOKENS // longest, 1))
        yield order[start:stop]
        start = stop
