"""Data altered in ways that a component must bear or refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.testing.matrices import is_sparse, spoil

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "converted",
    "widened",
    "with_empty_row",
    "with_nan",
    "with_stored_zeros",
    "with_strange_features",
]


def converted(adata: AnnData, convert: Callable[[Any], Any]) -> AnnData:
    """Apply ``convert`` to ``X`` and every layer of ``adata``, and return it."""
    for name in adata.layers:
        adata.layers[name] = convert(adata.layers[name])
    adata.X = convert(adata.X)
    return adata


def with_stored_zeros(values: Any) -> Any:
    """Return sparse values with some zeros stored among them."""
    if not is_sparse(values):
        return values
    coo = sp.csr_matrix(values).tocoo()
    rng = np.random.default_rng(9)
    rows, cols = rng.integers(0, values.shape[0], 400), rng.integers(0, values.shape[1], 400)
    free = np.asarray(sp.csr_matrix(values)[rows, cols]).ravel() == 0
    spot = np.unique(np.stack([rows[free], cols[free]]), axis=1)
    data = np.concatenate([coo.data, np.zeros(spot.shape[1], dtype=coo.data.dtype)])
    at = (np.concatenate([coo.row, spot[0]]), np.concatenate([coo.col, spot[1]]))
    return sp.csr_matrix((data, at), shape=values.shape)


def with_empty_row(values: Any) -> Any:
    """Return values whose third row is all zero."""
    keep = np.ones(values.shape[0])
    keep[2] = 0
    if not is_sparse(values):
        return (np.asarray(values) * keep[:, None]).astype(values.dtype)
    emptied = sp.csr_matrix(sp.diags(keep) @ values).astype(values.dtype)
    emptied.eliminate_zeros()
    return emptied


def with_nan(values: Any) -> Any:
    """Return values with NaN among them."""
    broken = values.copy()
    spoil(broken)
    return broken


def _padded(values: Any, extra: int) -> sp.csr_matrix:
    left = sp.csr_matrix(values)
    return sp.csr_matrix(sp.hstack([left, sp.csr_matrix((left.shape[0], extra))], format="csr"))


def _extended(adata: AnnData, names: list[str], fill: Any) -> AnnData:
    from anndata import AnnData as Container

    # The new features borrow the description of the first, under names of their own.
    var = adata.var.iloc[[*range(adata.n_vars), *[0] * len(names)]].copy()
    var.index = [*adata.var_names, *names]
    wide = Container(X=fill(adata.X), obs=adata.obs.copy(), var=var, obsm=dict(adata.obsm))
    for name in adata.layers:
        wide.layers[name] = fill(adata.layers[name])
    for key, value in adata.obsp.items():
        wide.obsp[key] = value
    for key, value in adata.uns.items():
        wide.uns[key] = value
    return wide


def with_strange_features(adata: AnnData) -> AnnData:
    """Return ``adata`` with features of unknown names behind its own."""
    names = [f"strange_{i}" for i in range(20)]

    def fill(values: Any) -> sp.csr_matrix:
        ones = sp.csr_matrix(np.ones((values.shape[0], len(names)), dtype=np.float32))
        return sp.csr_matrix(sp.hstack([sp.csr_matrix(values), ones], format="csr"))

    return _extended(adata, names, fill)


def widened(adata: AnnData, width: int = 40_000) -> AnnData:
    """Return ``adata`` with so many empty features that a dense copy would show."""
    names = [f"empty_{i}" for i in range(width - adata.n_vars)]
    return _extended(adata, names, lambda values: _padded(values, len(names)))
