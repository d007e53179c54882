"""Notice values that look normalised and logged where a model reads counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataNotice
from cellweave.tokenizing.rows import csr_of

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens

__all__ = ["notice_logged_values"]

_CELLS = 256  # a data set is logged or it is not: some cells tell
_LARGEST_LOG = 15.0  # log2 of 10 000 is 13.3; fractions of counts go beyond


def notice_logged_values(adata: AnnData, encode: Callable[[AnnData], Tokens]) -> None:
    """Warn where the values that a tokenizer of counts reads look logged.

    A tokenizer whose ``layer`` was set is trusted: ``"X"`` is how one says that values are logged.
    """
    owner = getattr(encode, "__self__", None)
    if owner is None or getattr(owner, "layer", "X") is not None or adata.n_obs == 0:
        return
    data = csr_of(adata[:_CELLS], None).data
    told = data[data != 0]
    if len(told) and told.max() <= _LARGEST_LOG and (told % 1).any():
        where = "layers['counts']" if "counts" in adata.layers else "X"
        msg = (
            f"{where} holds {told[np.argmax(told % 1 > 0)]:g} and the like: values look logged, "
            "and this model reads raw counts. Put counts into layers['counts'], or, where a method "
            "takes it, say that they are normalised."
        )
        warnings.warn(msg, DataNotice, stacklevel=4)
