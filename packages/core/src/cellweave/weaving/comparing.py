"""Coordinates in which cells of two modalities can be compared directly, before any weave.

Linked features are few and noisy one by one. Three things, none of them tuned to a data set, let
them carry: they are aggregated (a gene's peaks are summed before the logarithm), averaged over each
cell's neighbours within its own modality, where all features speak, and weighted by the share of
their variance that survives that averaging (a feature that its neighbours do not share is noise).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from cellweave.kernels.neighbours import nearest
from cellweave.weaving.cells import batch_means
from cellweave.weaving.linked import linked_pair

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import FeatureLinks
    from cellweave.weaving.cells import Cells

__all__ = ["LinkedCoordinates", "averaging", "linked_coordinates"]

_CLIP = 10.0
# Exact search is a matrix product; the approximate one only pays beyond this many cells.
_EXACT_UP_TO = 150_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedCoordinates:
    """Hold the coordinates in which the cells of two modalities can be compared directly.

    Parameters
    ----------
    source, target
        Modality names.
    source_linked, target_linked
        ``(n, s)`` float32, column by column about the same thing; canonical order.
    n_features
        Linked features that were used, before any reduction.
    shared_variance
        Mean weight of the features: the share of variance that neighbours share, 0 to 1.
    """

    source: str
    target: str
    source_linked: np.ndarray
    target_linked: np.ndarray
    n_features: int
    shared_variance: float


def averaging(coordinates: np.ndarray, n_neighbors: int) -> sp.csr_matrix:
    """Return the ``(n, n)`` average over each cell's nearest other cells, by cosine."""
    n = len(coordinates)
    k = int(min(n_neighbors, n - 1))
    found, _ = nearest(
        coordinates, k=k, metric="cosine", exclude_self=True, exact_up_to=_EXACT_UP_TO
    )
    data = np.full(n * k, 1.0 / k, dtype=np.float32)
    starts = np.arange(0, n * k + 1, k)
    return sp.csr_matrix((data, found.astype(np.int32).ravel(), starts), shape=(n, n))


def linked_coordinates(
    data: Mapping[str, AnnData],
    links: FeatureLinks,
    cells: Mapping[str, Cells],
    graphs: Mapping[str, sp.csr_matrix],
    *,
    max_dims: int,
) -> LinkedCoordinates:
    """Compute the shared coordinates of two linked modalities.

    Parameters
    ----------
    data
        Modality to prepared data.
    links
        Links of the two, restricted to the features of the data.
    cells
        Modality to its cells in canonical order.
    graphs
        Modality to what :func:`averaging` gives of them.
    max_dims
        Linked features are reduced to at most so many joint components.
    """
    pair = linked_pair(links, data)
    smoothed, shares = [], []
    for name in (links.source, links.target):
        own = pair.values(name, data[name])[cells[name].order]
        z, share = _smoothed(own, graphs[name], cells[name].batch)
        smoothed.append(z)
        shares.append(share)
    weight = np.sqrt(shares[0] * shares[1]).astype(np.float32)
    kept = weight > 0
    if not kept.any():
        weight, kept = np.ones_like(weight), np.ones_like(kept)
    for values in smoothed:
        np.multiply(values, weight, out=values)
    source, target = _jointly_reduced(smoothed, kept, max_dims)
    return LinkedCoordinates(
        source=links.source,
        target=links.target,
        source_linked=source,
        target_linked=target,
        n_features=int(kept.sum()),
        shared_variance=float(weight.mean()),
    )


def _smoothed(
    values: np.ndarray, graph: sp.csr_matrix, batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scores of neighbourhood means, and the share of variance that neighbours share.

    For white noise the mean over ``k`` other cells has ``1/k`` of the variance; what is above that
    is signal. ``values`` are overwritten: there is one more array of their size, no third.
    """
    values -= batch_means(values, batch)[batch]
    k = int(graph.indptr[1])
    mean = np.asarray(graph @ values, dtype=np.float32)
    ratio = _variances(mean) / np.maximum(_variances(values), 1e-12)
    share = np.clip((ratio - 1.0 / k) / max(1.0 - 1.0 / k, 1e-9), 0.0, 1.0)
    mean *= np.float32(k / (k + 1))
    values /= np.float32(k + 1)
    mean += values
    mean /= np.maximum(np.sqrt(_variances(mean)), 1e-6).astype(np.float32)
    return np.clip(mean, -_CLIP, _CLIP, out=mean), share


def _variances(values: np.ndarray) -> np.ndarray:
    """Return the variance of each column without a copy of them all."""
    squares = np.einsum("ij,ij->j", values, values, dtype=np.float64) / len(values)
    means = values.mean(axis=0, dtype=np.float64)
    out: np.ndarray = np.maximum(squares - means**2, 0.0)
    return out


def _jointly_reduced(
    both: Sequence[np.ndarray], kept: np.ndarray, max_dims: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kept columns, or as many joint components where they are more than that."""
    if kept.sum() > max_dims:
        gram = sum((b.T @ b).astype(np.float64) / len(b) for b in both)
        largest = [len(gram) - max_dims, len(gram) - 1]
        _, vectors = scipy.linalg.eigh(gram, subset_by_index=largest)
        axes = vectors[:, ::-1].astype(np.float32)
        parts = [b @ axes for b in both]
    else:
        parts = [b[:, kept] for b in both]
    scale = np.float32(np.sqrt(np.mean([p.var(axis=0).mean() for p in parts])) + 1e-8)
    left, right = (np.ascontiguousarray(p / scale, dtype=np.float32) for p in parts)
    return left, right
