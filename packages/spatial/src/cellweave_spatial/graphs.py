"""Who is a neighbour of whom: k nearest, within a radius, or sharing a Delaunay edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave_spatial.coordinates import coordinates_of, libraries_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["SpatialGraph", "spatial_graph"]

GraphKind = Literal["knn", "radius", "delaunay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialGraph:
    """Hold a symmetric neighbour graph without self-edges.

    Parameters
    ----------
    connectivities
        ``(n_cells, n_cells)`` CSR float32, 1 for neighbours.
    distances
        The same pattern with distances, in the unit of the coordinates.
    parameters
        How it was made.
    """

    connectivities: sp.csr_matrix
    distances: sp.csr_matrix
    parameters: dict[str, Any]

    def write(self, adata: AnnData) -> None:
        """Write into ``obsp`` and ``uns["spatial_neighbors"]`` under squidpy's names."""
        adata.obsp["spatial_connectivities"] = self.connectivities
        adata.obsp["spatial_distances"] = self.distances
        adata.uns["spatial_neighbors"] = {
            "connectivities_key": "spatial_connectivities",
            "distances_key": "spatial_distances",
            "params": {k: v for k, v in self.parameters.items() if v is not None},
        }


def spatial_graph(
    adata: AnnData,
    *,
    kind: GraphKind = "knn",
    n_neighbors: int = 6,
    radius: float | None = None,
    library_key: str | None = None,
) -> SpatialGraph:
    """Return the neighbour graph of ``adata``; slides never meet.

    Parameters
    ----------
    adata
        Data with coordinates; not changed.
    kind
        ``"knn"`` (an edge where either is among the k nearest of the other), ``"radius"`` or
        ``"delaunay"``.
    n_neighbors
        Of ``"knn"``.
    radius
        Largest distance: needed by ``"radius"``, a cut for the others.
    library_key
        ``obs`` column that tells slides apart.
    """
    _check(kind, n_neighbors, radius)
    places = coordinates_of(adata)
    libraries = libraries_of(adata, library_key)
    edges = [
        members[_edges(places[members], kind, n_neighbors, radius)]
        for members in (np.flatnonzero(libraries == code) for code in np.unique(libraries))
    ]
    left, right = np.concatenate(edges).T
    lengths = np.linalg.norm(places[left] - places[right], axis=1)
    if radius is not None:
        near = lengths <= radius
        left, right, lengths = left[near], right[near], lengths[near]
    parameters = {
        "kind": kind,
        "n_neighbors": n_neighbors if kind == "knn" else None,
        "radius": radius,
        "library_key": library_key,
    }
    return _assembled(left, right, lengths, adata.n_obs, parameters)


def _check(kind: str, n_neighbors: int, radius: float | None) -> None:
    if kind not in ("knn", "radius", "delaunay"):
        msg = f"Got kind={kind!r}. Expected 'knn', 'radius' or 'delaunay'."
        raise ConfigError(msg)
    if n_neighbors < 1 or (radius is not None and not radius > 0):
        msg = f"Got n_neighbors={n_neighbors!r}, radius={radius!r}. Expected both above 0."
        raise ConfigError(msg)
    if kind == "radius" and radius is None:
        msg = "kind='radius' needs a radius. Give it in the unit of the coordinates."
        raise ConfigError(msg)


def _edges(places: np.ndarray, kind: str, n_neighbors: int, radius: float | None) -> np.ndarray:
    """Return ``(n_edges, 2)`` pairs with the smaller position first, each once."""
    if len(places) < 2:
        return np.empty((0, 2), dtype=np.int64)
    if kind == "knn":
        pairs = _nearest(places, n_neighbors)
    elif kind == "radius":
        from scipy.spatial import cKDTree

        pairs = cKDTree(places).query_pairs(radius or 0.0, output_type="ndarray")
    else:
        pairs = _triangulated(places)
    return np.unique(np.sort(pairs.astype(np.int64), axis=1), axis=0)


def _nearest(places: np.ndarray, n_neighbors: int) -> np.ndarray:
    from scipy.spatial import cKDTree

    k = min(n_neighbors, len(places) - 1)
    _, at = cKDTree(places).query(places, k=k + 1)
    own = np.arange(len(places))[:, None]
    # Cells at one place may push a cell out of its own first rank: drop it wherever it stands,
    # and the farthest where it does not stand at all.
    at = np.asarray(at)
    is_self = at == own
    is_self[~is_self.any(axis=1), -1] = True
    neighbours = at[~is_self].reshape(len(places), k)
    return np.column_stack([np.repeat(own.ravel(), k), neighbours.ravel()])


def _triangulated(places: np.ndarray) -> np.ndarray:
    from itertools import combinations

    from scipy.spatial import Delaunay, QhullError

    # Qhull leaves out all but one of the cells at one place: they are tied to that one instead.
    distinct, first, group = np.unique(places, axis=0, return_index=True, return_inverse=True)
    twins = np.column_stack([np.arange(len(places)), first[group.ravel()]])
    twins = twins[twins[:, 0] != twins[:, 1]]
    if len(distinct) <= places.shape[1]:
        pairs = np.array(list(combinations(range(len(distinct)), 2)), dtype=np.int64)
        return np.concatenate([first[pairs.reshape(-1, 2)], twins])
    try:
        simplices = Delaunay(distinct).simplices
    except QhullError as error:
        msg = (
            f"{len(places)} cells cannot be triangulated: they lie on one line or in one place. "
            "Use kind='knn' or kind='radius' for them."
        )
        raise DataError(msg) from error
    corners = combinations(range(simplices.shape[1]), 2)
    return np.concatenate([*(first[simplices[:, pair]] for pair in corners), twins])


def _assembled(
    left: np.ndarray, right: np.ndarray, lengths: np.ndarray, n: int, parameters: dict[str, Any]
) -> SpatialGraph:
    rows, cols = np.concatenate([left, right]), np.concatenate([right, left])
    both = np.concatenate([lengths, lengths]).astype(np.float32)
    ones = np.ones(len(rows), dtype=np.float32)
    distances = sp.coo_matrix((both, (rows, cols)), shape=(n, n)).tocsr()
    connectivities = sp.coo_matrix((ones, (rows, cols)), shape=(n, n)).tocsr()
    return SpatialGraph(
        connectivities=sp.csr_matrix(connectivities),
        distances=sp.csr_matrix(distances),
        parameters=parameters,
    )
