"""Features of a cell's surroundings: which kinds of cell live around it, in shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellweave.kernels.neighbours import nearest

__all__ = ["Surroundings", "composition_of", "neighbourhood_composition", "with_surroundings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Hold what new cells need: ``(c, k)`` kinds, ``(c,)`` mean shares, and the scale."""

    kinds: np.ndarray
    mean: np.ndarray
    scale: float


def neighbourhood_composition(
    coordinates: np.ndarray, kinds: np.ndarray, *, n_neighbors: int, batch: np.ndarray | None = None
) -> np.ndarray:
    """Return ``(n, c)`` shares of each kind among a cell's nearest cells, itself included.

    Parameters
    ----------
    coordinates
        ``(n, 2)`` or ``(n, 3)`` places; not changed.
    kinds
        ``(n,)`` kind of each cell, from 0.
    n_neighbors
        Number of surrounding cells.
    batch
        ``(n,)`` slice of each cell; cells of different slices are no neighbours.
    """
    n_kinds = int(kinds.max(initial=0)) + 1
    slices = np.zeros(len(kinds), dtype=np.int64) if batch is None else batch
    shares = np.zeros((len(kinds), n_kinds), dtype=np.float32)
    for one in np.unique(slices):
        at = np.flatnonzero(slices == one)
        k = min(n_neighbors + 1, len(at))
        found, _ = nearest(coordinates[at], coordinates[at], k=k)
        np.add.at(shares, (np.repeat(at, k), kinds[at][found].ravel()), np.float32(1 / k))
    return shares


def with_surroundings(
    representation: np.ndarray,
    coordinates: np.ndarray,
    *,
    n_neighbors: int,
    share: float,
    batch: np.ndarray,
) -> tuple[np.ndarray, Surroundings]:
    """Append the composition around each cell, with ``share`` of the representation's variance."""
    kinds = _kinds(representation)
    own = _nearest_kind(representation, kinds)
    composition = neighbourhood_composition(coordinates, own, n_neighbors=n_neighbors, batch=batch)
    mean = composition.mean(axis=0)
    spread = float(((composition - mean) ** 2).sum(axis=1).mean())
    wanted = share * float((representation**2).sum(axis=1).mean())
    fitted = Surroundings(kinds=kinds, mean=mean, scale=float(np.sqrt(wanted / max(spread, 1e-12))))
    return np.concatenate([representation, _scaled(composition, fitted)], axis=1), fitted


def composition_of(
    representation: np.ndarray,
    coordinates: np.ndarray,
    fitted: Surroundings,
    *,
    n_neighbors: int,
    batch: np.ndarray,
) -> np.ndarray:
    """Return new cells with the composition appended, kinds and scale as fitted."""
    own = _nearest_kind(representation, fitted.kinds)
    shares = neighbourhood_composition(coordinates, own, n_neighbors=n_neighbors, batch=batch)
    full = np.zeros((len(own), len(fitted.mean)), dtype=np.float32)
    full[:, : shares.shape[1]] = shares
    return np.concatenate([representation, _scaled(full, fitted)], axis=1)


def _scaled(composition: np.ndarray, fitted: Surroundings) -> np.ndarray:
    scaled: np.ndarray = ((composition - fitted.mean) * fitted.scale).astype(np.float32)
    return scaled


def _nearest_kind(representation: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    return nearest(representation, kinds, k=1)[0][:, 0]


def _kinds(representation: np.ndarray) -> np.ndarray:
    from sklearn.cluster import KMeans

    count = int(np.clip(round(np.sqrt(len(representation)) / 3), 4, 30))
    means = KMeans(count, n_init=1, max_iter=50, random_state=0).fit(representation)
    return np.asarray(means.cluster_centers_, dtype=np.float32)
