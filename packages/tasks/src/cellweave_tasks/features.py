"""What a task sees of a cell: an embedding from ``obsm``, or the normalised values in ``X``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["column_of", "features_of", "fingerprints", "labels_of"]


def features_of(adata: AnnData, use_rep: str | None) -> np.ndarray | sp.csr_matrix:
    """Return ``obsm[use_rep]`` as float32, or ``X`` (CSR stays CSR) when ``use_rep`` is ``None``."""
    if use_rep is None:
        values = adata.X
    elif use_rep in adata.obsm:
        values = adata.obsm[use_rep]
    else:
        msg = (
            f"`adata.obsm` has no {use_rep!r}.{closest(use_rep, adata.obsm)} "
            f"It has: {one_of(adata.obsm)}. Prepare or embed first, or give another `use_rep`."
        )
        raise DataError(msg)
    if sp.issparse(values):
        matrix = sp.csr_matrix(values, dtype=np.float32)
        _refuse_nan(matrix.data, use_rep)
        return matrix
    dense = np.asarray(values, dtype=np.float32)
    _refuse_nan(dense, use_rep)
    return dense


def column_of(adata: AnnData, key: str) -> np.ndarray:
    """Return an ``obs`` column as text; missing values are the empty string."""
    if key not in adata.obs:
        msg = (
            f"`adata.obs` has no {key!r}.{closest(key, map(str, adata.obs))} "
            f"It has: {one_of(map(str, adata.obs))}."
        )
        raise DataError(msg)
    column = adata.obs[key]
    return np.where(column.isna(), "", column.astype(str)).astype(str)


def labels_of(adata: AnnData, key: str) -> np.ndarray:
    """Return labels, refusing data in which any is missing or fewer than two differ."""
    labels = column_of(adata, key)
    n_missing = int((labels == "").sum())
    kinds = set(labels.tolist()) - {""}
    if n_missing or len(kinds) < 2:
        msg = (
            f"`adata.obs[{key!r}]` lacks {n_missing} of {len(labels)} labels and holds "
            f"{len(kinds)} kinds. Training needs every label and two kinds or more: drop the "
            "cells without one."
        )
        raise DataError(msg)
    return labels


def fingerprints(features: np.ndarray | sp.csr_matrix) -> np.ndarray:
    """Return a digest of each row, by which one cell is known again under another name."""
    matrix = features.tocsr() if sp.issparse(features) else None
    digests = np.empty(features.shape[0], dtype="S16")
    for i in range(features.shape[0]):
        if matrix is None:
            row = np.ascontiguousarray(features[i]).tobytes()
        else:
            part = slice(matrix.indptr[i], matrix.indptr[i + 1])
            row = matrix.indices[part].tobytes() + matrix.data[part].tobytes()
        digests[i] = hashlib.blake2b(row, digest_size=16).digest()
    return digests


def _refuse_nan(values: np.ndarray, use_rep: str | None) -> None:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        place = "X" if use_rep is None else f"obsm[{use_rep!r}]"
        msg = f"`adata.{place}` holds {bad} values that are NaN or infinite. Prepare it again."
        raise DataError(msg)
