"""Two coordinates to look at: UMAP with a fixed seed, principal components for a handful."""

from __future__ import annotations

import numpy as np

from cellweave.errors import DataError
from cellweave.kernels.neighbours import nearest

__all__ = ["layout"]

_FEWEST = 20


def layout(embedding: np.ndarray, seed: int = 0, *, n_neighbors: int = 15) -> np.ndarray:
    """Return ``(n, 2)`` coordinates for the eye; distances in them prove nothing.

    Parameters
    ----------
    embedding
        ``(n, d)``.
    seed
        Same seed, same picture.
    n_neighbors
        Of UMAP; fewer when there are fewer cells.
    """
    points = np.asarray(embedding, dtype=np.float32)
    if points.ndim != 2 or not np.isfinite(points).all():
        msg = (
            f"The embedding has shape {points.shape} or holds NaN. Expected finite rows, one per "
            "cell. Mend the embedding before drawing it."
        )
        raise DataError(msg)
    if len(points) < _FEWEST or points.shape[1] < 3:
        return _principal(points)
    placed = _umap(points, seed, min(n_neighbors, len(points) - 1))
    # Cells that differ by rounding alone, as of an untrained model, make UMAP divide by nothing.
    return placed if np.isfinite(placed).all() else _principal(points)


def _principal(points: np.ndarray) -> np.ndarray:
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of an axis is arbitrary: fix it, so that the picture does not flip.
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True) + 1e-12)
    out = np.zeros((len(points), 2), dtype=np.float32)
    out[:, : len(axes)] = centred @ axes.T
    return out


def _umap(points: np.ndarray, seed: int, n_neighbors: int) -> np.ndarray:
    import warnings

    from umap import UMAP

    # Our own neighbours: exact, and umap need not compile an approximate search for them.
    others, apart = nearest(points, k=n_neighbors - 1, exclude_self=True, seed=seed)
    itself = np.arange(len(points))[:, None]
    table = (
        np.concatenate([itself, others], axis=1),
        np.concatenate([np.zeros((len(points), 1)), apart], axis=1).astype(np.float32),
        None,
    )
    start = _principal(points)
    spread = np.abs(start).max() or 1.0
    with warnings.catch_warnings():
        # It tells that a seed means one thread and that new cells cannot be added: we know.
        warnings.simplefilter("ignore")
        model = UMAP(
            n_neighbors=n_neighbors,
            min_dist=0.3,
            random_state=seed,
            n_jobs=1,
            precomputed_knn=table,
            init=(10.0 * start / spread).astype(np.float32),
        )
        return np.asarray(model.fit_transform(points), dtype=np.float32)
