"""Ions in the tissue: images, neighbours, and how much a feature keeps together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ion_image", "morans_i", "pixel_neighbours", "smoothed"]

_BLOCK = 256


def ion_image(adata: AnnData, feature: str, *, layer: str | None = None) -> np.ndarray:
    """Return the ``(rows, columns)`` image of one feature; NaN where no pixel was measured.

    Coordinates must lie on a grid; its step is the smallest difference between them.
    """
    if feature not in adata.var_names:
        msg = f"There is no feature {feature!r}. The first are {list(adata.var_names[:3])}."
        raise DataError(msg)
    places = _places(adata)[:, :2]
    cells = np.column_stack([_grid(places[:, axis]) for axis in (0, 1)])
    shape = cells.max(axis=0) + 1
    if shape[0] * shape[1] > 64 * max(len(cells), 1024):
        msg = (
            f"{len(cells)} pixels would make an image of {shape[1]} x {shape[0]}: their places "
            "are on no grid. Expected pixel coordinates, e.g. column and row."
        )
        raise DataError(msg)
    matrix = adata.X if layer is None else adata.layers[layer]
    column: Any = matrix[:, adata.var_names.get_loc(feature)]
    dense = column if isinstance(column, np.ndarray) else column.toarray()
    values = np.asarray(dense).ravel()
    image = np.full((shape[1], shape[0]), np.nan, dtype=np.float32)
    image[cells[:, 1], cells[:, 0]] = values
    return image


def pixel_neighbours(adata: AnnData, *, n_neighbors: int = 8) -> sp.csr_matrix:
    """Return the symmetric 0/1 graph of the nearest pixels, none its own neighbour."""
    from scipy.spatial import cKDTree

    places = _places(adata)
    k = min(n_neighbors, len(places) - 1)
    at = np.asarray(cKDTree(places).query(places, k=np.arange(1, k + 2))[1])
    rows = np.repeat(np.arange(len(places)), k + 1)
    keep = rows != at.ravel()
    ones = np.ones(int(keep.sum()), dtype=np.float32)
    shape = (len(places), len(places))
    graph = sp.csr_matrix((ones, (rows[keep], at.ravel()[keep])), shape=shape)
    return sp.csr_matrix(graph.maximum(graph.T))


def morans_i(values: sp.csr_matrix, graph: sp.csr_matrix) -> np.ndarray:
    """Return Moran's I of every column: ``n/W · Σ w_ij z_i z_j / Σ z_i²``; 0 for a constant one."""
    n = values.shape[0]
    weight = float(graph.sum())
    result = np.zeros(values.shape[1])
    columns = values.tocsc()
    for begin in range(0, values.shape[1], _BLOCK):
        block = columns[:, begin : begin + _BLOCK].toarray().astype(np.float64)
        block -= block.mean(axis=0)
        square = (block**2).sum(axis=0)
        cross = (block * (graph @ block)).sum(axis=0)
        scale = np.divide(n, weight * square, out=np.zeros_like(square), where=square > 0)
        result[begin : begin + _BLOCK] = cross * scale
    return result


def smoothed(values: sp.csr_matrix, graph: sp.csr_matrix) -> sp.csr_matrix:
    """Return each pixel's mean with its neighbours."""
    with_self = (graph + sp.identity(graph.shape[0], format="csr", dtype=np.float32)).tocsr()
    degree = np.asarray(with_self.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(1 / degree) @ with_self @ values).astype(np.float32)


def _places(adata: AnnData) -> np.ndarray:
    if "spatial" not in adata.obsm:
        msg = "There are no coordinates in obsm['spatial']. Put (n_pixels, 2) numbers there."
        raise DataError(msg)
    places = np.asarray(adata.obsm["spatial"], dtype=np.float64)
    if places.ndim != 2 or places.shape[1] < 2 or not np.isfinite(places).all():
        msg = f"obsm['spatial'] of shape {places.shape} is not (n_pixels, 2) finite numbers."
        raise DataError(msg)
    return places


def _grid(values: np.ndarray) -> np.ndarray:
    distinct = np.unique(values)
    step = np.diff(distinct).min() if len(distinct) > 1 else 1.0
    return np.rint((values - distinct[0]) / step).astype(np.int64)
