"""Where embeddings of genes come from: ``varm`` of the cells, or a file of an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave.records import Embedding

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["gene_embedding_of"]


def gene_embedding_of(adata: AnnData, source: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return names of genes and one vector each; ``None`` when no source is named.

    Parameters
    ----------
    adata
        The cells.
    source
        A key of ``varm``, or the path of an ``.npz`` that ``Embedding.save`` wrote (which may
        know genes that were not measured).
    """
    if source is None:
        return None
    if source in adata.varm:
        names = np.asarray(adata.var_names, dtype=str)
        values = np.asarray(adata.varm[source], dtype=np.float64)
    elif source.endswith(".npz"):
        found = Embedding.load(Path(source))
        names, values = found.names.astype(str), found.values.astype(np.float64)
    else:
        msg = (
            f"`adata.varm` has no {source!r}.{closest(source, adata.varm)} It has: "
            f"{one_of(adata.varm)}. Put gene embeddings there, or name an .npz of them."
        )
        raise DataError(msg)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        msg = f"The gene embedding {source!r} holds {bad} values that are NaN or infinite."
        raise DataError(msg)
    return names, values
