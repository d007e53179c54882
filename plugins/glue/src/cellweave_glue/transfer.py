"""Carry labels from one modality to another over shared neighbours.

With S the number of neighbours that cells x and y share, among k in each modality, the Jaccard
index S / (4k - S) weighs every reference cell; the label of most weight wins, and its share of the
weight is the confidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.kernels.neighbours import nearest

if TYPE_CHECKING:
    from cellweave.records import Provenance

from cellweave.records import Prediction

__all__ = ["transfer_labels"]

_CHUNK = 4096


def transfer_labels(
    reference: np.ndarray,
    labels: np.ndarray,
    query: np.ndarray,
    *,
    query_names: np.ndarray,
    provenance: Provenance,
    n_neighbours: int = 30,
) -> Prediction:
    """Return labels of ``query`` cells with confidence and the share of every label.

    Parameters
    ----------
    reference, query
        Embeddings in one space.
    labels
        One a reference cell; missing ones (``None``, NaN) carry no weight.
    query_names
        Names of the query's cells.
    provenance
        What made the embeddings.
    n_neighbours
        Neighbours in each modality.
    """
    known = ~pd.isna(np.asarray(labels, dtype=object))
    if len(labels) != len(reference) or not known.any():
        msg = (
            f"There are {int(known.sum())} known labels among {len(labels)} for {len(reference)} "
            "reference cells. Give one label a cell, at least one of them known."
        )
        raise DataError(msg)
    names, codes = np.unique(np.asarray(labels)[known].astype(str), return_inverse=True)
    onehot = sp.csr_matrix(
        (np.ones(len(codes)), (np.flatnonzero(known), codes)), shape=(len(labels), len(names))
    )
    weights = _shared_weights(reference, query, n_neighbours, onehot)
    total = weights.sum(1, keepdims=True)
    shares = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return Prediction(
        names=np.asarray(query_names),
        values=names[shares.argmax(1)],
        confidence=shares.max(1).astype(np.float32),
        columns=names,
        probabilities=shares.astype(np.float32),
        provenance=provenance,
    )


def _shared_weights(
    reference: np.ndarray, query: np.ndarray, k: int, onehot: sp.csr_matrix
) -> np.ndarray:
    """Sum the Jaccard indices of each query cell over the reference cells of each label."""
    k = min(k, len(reference), len(query))
    rr, rq = _graph(reference, reference, k), _graph(reference, query, k)
    qr, qq = _graph(query, reference, k), _graph(query, query, k)
    over_reference, over_query = rr.T.tocsr(), rq.T.tocsr()
    out = np.zeros((len(query), onehot.shape[1]))
    for start in range(0, len(query), _CHUNK):
        rows = slice(start, start + _CHUNK)
        shared = (qr[rows] @ over_reference + qq[rows] @ over_query).tocsr()
        shared.data = shared.data / (4 * k - shared.data)
        out[rows] = (shared @ onehot).toarray()
    return out


def _graph(queries: np.ndarray, reference: np.ndarray, k: int) -> sp.csr_matrix:
    found, _ = nearest(queries, reference, k, metric="cosine")
    indptr = np.arange(0, found.size + 1, k)
    shape = (len(queries), len(reference))
    return sp.csr_matrix((np.ones(found.size), found.ravel(), indptr), shape=shape)
