"""What a task sees of a cell: an embedding from ``obsm``, or the normalised values in ``X``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of
from cellweave.labels import is_known

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "aligned",
    "as_dense",
    "column_of",
    "counts_of",
    "embedded",
    "features_of",
    "fingerprints",
    "labels_of",
    "most_variable",
]

_ROWS_AT_ONCE = 1024


def features_of(adata: AnnData, use_rep: str | None) -> np.ndarray | sp.csr_matrix:
    """Return ``obsm[use_rep]`` as float32, or ``X`` (CSR stays CSR) when there is no key."""
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
    place = "X" if use_rep is None else f"obsm[{use_rep!r}]"
    return _checked(values, place)


def embedded(adata: AnnData, use_rep: str, width: int) -> np.ndarray:
    """Return ``obsm[use_rep]``, refusing another width than that of training."""
    features = as_dense(features_of(adata, use_rep))
    if features.shape[1] != width:
        msg = (
            f"`obsm[{use_rep!r}]` has {features.shape[1]} columns, training had {width}. Embed "
            "both with the same model or basis."
        )
        raise DataError(msg)
    return features


def counts_of(adata: AnnData, layer: str) -> sp.csr_matrix:
    """Return raw counts of a layer as CSR, refusing what no count can be."""
    if layer not in adata.layers:
        msg = (
            f"`adata.layers` has no {layer!r}.{closest(layer, adata.layers)} "
            f"It has: {one_of(adata.layers)}. This task needs raw counts."
        )
        raise DataError(msg)
    counts = sp.csr_matrix(_checked(adata.layers[layer], f"layers[{layer!r}]"))
    bad = int(((counts.data < 0) | (counts.data != np.round(counts.data))).sum())
    if bad:
        msg = (
            f"`adata.layers[{layer!r}]` holds {bad} values that are no counts, e.g. negative or "
            "fractional. Give the raw counts."
        )
        raise DataError(msg)
    return counts


def column_of(adata: AnnData, key: str) -> np.ndarray:
    """Return an ``obs`` column as text; missing values, also written out, are the empty string."""
    if key not in adata.obs:
        msg = (
            f"`adata.obs` has no {key!r}.{closest(key, map(str, adata.obs))} "
            f"It has: {one_of(map(str, adata.obs))}."
        )
        raise DataError(msg)
    column = adata.obs[key]
    text = column.astype(str).to_numpy(dtype=str)
    return np.where(is_known(text), text, "").astype(str)


def labels_of(adata: AnnData, key: str, *, kinds: int = 2) -> np.ndarray:
    """Return labels, refusing data in which any is missing or fewer than ``kinds`` differ."""
    try:
        labels = column_of(adata, key)
    except DataError as error:
        msg = f"{error} Name the column of labels, on the command line by --set label_key=NAME."
        raise DataError(msg) from None
    n_missing = int((labels == "").sum())
    found = set(labels.tolist()) - {""}
    if n_missing or len(found) < kinds:
        msg = (
            f"`adata.obs[{key!r}]` lacks {n_missing} of {len(labels)} labels and holds "
            f"{len(found)} kinds. Expected every label and {kinds} kinds or more: drop the "
            "cells without one."
        )
        raise DataError(msg)
    return labels


def aligned(adata: AnnData, var_names: np.ndarray) -> np.ndarray | sp.csr_matrix:
    """Return ``X`` with the columns named, zero where a feature is missing."""
    names = np.asarray(adata.var_names, dtype=str)
    if np.array_equal(names, var_names):
        return features_of(adata, None)
    at = pd.Index(names).get_indexer(pd.Index(var_names))
    if not (at >= 0).any():
        msg = (
            f"None of the {len(var_names)} features of training, e.g. {var_names[0]!r}, is among "
            f"the {len(names)} of these cells, e.g. {names[0]!r}. Map the identifiers first."
        )
        raise DataError(msg)
    picked = sp.csc_matrix(features_of(adata, None))[:, np.maximum(at, 0)]
    return sp.csr_matrix(picked @ sp.diags((at >= 0).astype(np.float32)))


def most_variable(values: np.ndarray | sp.csr_matrix, n: int) -> np.ndarray:
    """Return the columns of largest variance, in their order."""
    mean = np.asarray(values.mean(axis=0)).ravel()
    squares = values.multiply(values) if sp.issparse(values) else np.square(values)
    variance = np.asarray(squares.mean(axis=0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:n])


def as_dense(values: np.ndarray | sp.csr_matrix) -> np.ndarray:
    """Return a dense block."""
    return values.toarray() if sp.issparse(values) else np.asarray(values)


def fingerprints(features: np.ndarray | sp.csr_matrix) -> np.ndarray:
    """Return a 64-bit digest of each row, by which a cell is known again under another name.

    It is a sum of mixed (column, value) words, so a sparse and a dense row of equal values agree.
    """
    if sp.issparse(features):
        matrix = sp.csr_matrix(features, dtype=np.float32)
        words = _words(matrix.data, matrix.indices)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words, dtype=np.uint64)])
        return sums[matrix.indptr[1:]] - sums[matrix.indptr[:-1]]
    columns = np.arange(features.shape[1])
    blocks = [
        _words(np.asarray(features[i : i + _ROWS_AT_ONCE], dtype=np.float32), columns).sum(
            axis=1, dtype=np.uint64
        )
        for i in range(0, len(features), _ROWS_AT_ONCE)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)


def _words(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Mix each value's bits with its column (splitmix64); zeros give zero."""
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    word = (bits << np.uint64(32)) ^ (columns.astype(np.uint64) + np.uint64(1))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    word ^= word >> np.uint64(31)
    return np.where(values == 0, np.uint64(0), word)


def _checked(values: Any, place: str) -> np.ndarray | sp.csr_matrix:
    is_sparse: bool = sp.issparse(values)
    if is_sparse:
        matrix = sp.csr_matrix(values, dtype=np.float32)
        _refuse_nan(matrix.data, place)
        return matrix
    dense: np.ndarray = np.asarray(values, dtype=np.float32)
    _refuse_nan(dense, place)
    return dense


def _refuse_nan(values: np.ndarray, place: str) -> None:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        msg = f"`adata.{place}` holds {bad} values that are NaN or infinite. Prepare it again."
        raise DataError(msg)
