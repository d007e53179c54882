"""Ions in the tissue: images, neighbours, and how much a feature keeps together."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.preparing import is_lazy, sum_over_blocks

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


def morans_i(values: Any, graph: sp.csr_matrix) -> np.ndarray:
    """Return Moran's I of every column: ``n/W · Σ w_ij z_i z_j / Σ z_i²``; 0 for a constant one.

    ``values`` are CSR, or a Dask array of CSR blocks: then two blocks at a time are in memory, and
    those are read together whose pixels neighbour each other.
    """
    if is_lazy(values):
        return _morans_i_of_blocks(values, graph)
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


def _morans_i_of_blocks(values: Any, graph: sp.csr_matrix) -> np.ndarray:
    """Expand the products of centred values, so that zeros stay zeros.

    With m the mean and d the degrees, ``Σ w z z = Σ w x x − 2 m Σ d x + m² W``.
    """
    n, width = values.shape
    degree = np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()

    def sums(block: sp.csr_matrix, of_rows: np.ndarray) -> np.ndarray:
        x = block.astype(np.float64)
        weighted = x.T @ of_rows
        plain, square = (np.asarray(m.sum(axis=0)).ravel() for m in (x, x.power(2)))
        return np.stack([plain, square, weighted])

    total, square, weighted = sum_over_blocks(sums, values, degree, shape=(3, width))
    mean, weight = total / n, float(degree.sum())
    cross = _products_of_neighbours(values, graph) - 2 * mean * weighted + mean**2 * weight
    spread = np.maximum(square - n * mean**2, 0)
    varies = spread > 1e-12 * np.maximum(square, 1e-300)
    return np.divide(n * cross, weight * spread, out=np.zeros(width), where=varies)


def _products_of_neighbours(values: Any, graph: sp.csr_matrix) -> np.ndarray:
    """Return ``Σ w_ij x_i x_j`` of every column, pair by pair of blocks."""
    edges = np.cumsum([0, *values.chunks[0]])
    result = np.zeros(values.shape[1])
    for a, rows in enumerate(pairwise(edges)):
        mine = graph[slice(*rows)]
        here = values.blocks[a].compute().astype(np.float64)
        touched = np.unique(np.searchsorted(edges, mine.indices, side="right") - 1)
        for b in touched[touched >= a]:
            part = mine[:, edges[b] : edges[b + 1]].astype(np.float64)
            there = here if a == b else values.blocks[int(b)].compute().astype(np.float64)
            found = np.asarray(here.multiply(part @ there).sum(axis=0)).ravel()
            result += found if a == b else 2 * found  # the graph is symmetric
    return result


def smoothed(values: Any, graph: sp.csr_matrix) -> Any:
    """Return the mean of each pixel and its neighbours; blocks (Dask) give blocks."""
    with_self = (graph + sp.identity(graph.shape[0], format="csr", dtype=np.float32)).tocsr()
    degree = np.asarray(with_self.sum(axis=1)).ravel()
    means = sp.csr_matrix(sp.diags(1 / degree) @ with_self)
    return _smoothed_blocks(values, means) if is_lazy(values) else _mean_of(means, values)


def _mean_of(*parts: sp.csr_matrix) -> sp.csr_matrix:
    """Add up products of weights and blocks, given in turn."""
    total = sum(w @ x for w, x in zip(parts[::2], parts[1::2]))
    return sp.csr_matrix(total).astype(np.float32)


def _smoothed_blocks(values: Any, means: sp.csr_matrix) -> Any:
    da: Any = import_module("dask.array")
    delayed: Any = import_module("dask").delayed
    edges, made = np.cumsum([0, *values.chunks[0]]), []
    blocks: Any = values.to_delayed().ravel()
    meta: Any = sp.csr_matrix(np.zeros((0, 0), dtype=np.float32))
    for start, stop in pairwise(edges):
        mine = means[start:stop]
        touched = np.unique(np.searchsorted(edges, mine.indices, side="right") - 1)
        parts = [p for b in touched for p in (mine[:, edges[b] : edges[b + 1]], blocks[int(b)])]
        shape = (int(stop - start), values.shape[1])
        made.append(da.from_delayed(delayed(_mean_of)(*parts), shape, np.float32, meta=meta))
    return da.concatenate(made, axis=0)


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
