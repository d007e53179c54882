"""What surrounds a cell: which kinds of cells, and how densely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave_spatial.coordinates import coordinates_of, libraries_of
from cellweave_spatial.graphs import SpatialGraph, spatial_graph

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["local_density", "neighbourhood_composition"]


def neighbourhood_composition(
    adata: AnnData,
    *,
    label_key: str = "cell_type",
    graph: SpatialGraph | None = None,
    include_self: bool = False,
) -> pd.DataFrame:
    """Return the share of each label among the neighbours of every cell, in input order.

    Parameters
    ----------
    adata
        Data with labels; cells without a label are counted nowhere.
    label_key
        ``obs`` column.
    graph
        Neighbours; the graph in ``obsp["spatial_connectivities"]``, or six nearest, when not given.
    include_self
        Whether a cell counts in its own surroundings.

    Returns
    -------
    pandas.DataFrame
        One column a label; a row of zeros where a cell has no labelled neighbour.
    """
    import pandas as pd

    if label_key not in adata.obs.columns:
        msg = f"obs has no column {label_key!r}. It has: {list(adata.obs.columns)[:10]}."
        raise DataError(msg)
    labels = pd.Categorical(adata.obs[label_key])
    known = np.flatnonzero(labels.codes >= 0)
    shape = (adata.n_obs, len(labels.categories))
    ones = np.ones(len(known))
    one_hot = sp.csr_matrix((ones, (known, labels.codes[known])), shape=shape)
    neighbours = _neighbours(adata, graph).astype(np.float64)
    counts = (neighbours @ one_hot).toarray()
    if include_self:
        counts += one_hot.toarray()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return pd.DataFrame(shares, index=adata.obs_names, columns=labels.categories.astype(str))


def local_density(
    adata: AnnData,
    *,
    n_neighbors: int = 10,
    radius: float | None = None,
    library_key: str | None = None,
) -> np.ndarray:
    """Return cells per unit of area (or volume) around each cell.

    Without ``radius`` it is ``k / volume(distance to the k-th neighbour)``; with it, the other
    cells within ``radius`` over its volume.
    """
    if n_neighbors < 1 or (radius is not None and not radius > 0):
        msg = f"Got n_neighbors={n_neighbors!r}, radius={radius!r}. Expected both above 0."
        raise ConfigError(msg)
    places, libraries = coordinates_of(adata), libraries_of(adata, library_key)
    density = np.zeros(adata.n_obs)
    for code in np.unique(libraries):
        members = np.flatnonzero(libraries == code)
        if len(members) > 1:
            density[members] = _density(places[members], n_neighbors, radius)
    return density


def _density(places: np.ndarray, n_neighbors: int, radius: float | None) -> np.ndarray:
    from scipy.spatial import cKDTree

    tree = cKDTree(places)
    if radius is not None:
        others = tree.query_ball_point(places, radius, return_length=True) - 1
        return np.asarray(others / _volume(np.float64(radius), places.shape[1]))
    k = min(n_neighbors, len(places) - 1)
    reach = np.asarray(tree.query(places, k=[k + 1])[0])[:, 0]
    volume = _volume(reach, places.shape[1])
    return np.divide(k, volume, out=np.full(len(places), np.inf), where=volume > 0)


def _volume(radius: np.ndarray | np.float64, n_dimensions: int) -> np.ndarray:
    return np.asarray(np.pi * radius**2 if n_dimensions == 2 else 4 / 3 * np.pi * radius**3)


def _neighbours(adata: AnnData, graph: SpatialGraph | None) -> sp.csr_matrix:
    if graph is None and "spatial_connectivities" in adata.obsp:
        return sp.csr_matrix(adata.obsp["spatial_connectivities"])
    chosen = graph or spatial_graph(adata)
    if chosen.connectivities.shape[0] != adata.n_obs:
        msg = (
            f"The graph has {chosen.connectivities.shape[0]} cells, the data {adata.n_obs}. "
            "Make the graph of these data: spatial_graph(adata)."
        )
        raise DataError(msg)
    return chosen.connectivities
