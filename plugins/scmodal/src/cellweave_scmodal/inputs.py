"""Lay out what the networks take: each modality's coordinates, and the features two share.

The linked features of a pair are few and noisy one by one. Three things, none of them tuned to a
data set, let them carry: they are aggregated (a gene's peaks are summed before the logarithm),
averaged over each cell's neighbours within its own modality, where all features speak, and weighted
by the share of their variance that survives that averaging (a feature that its neighbours do not
share is noise).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from cellweave import weaving
from cellweave.kernels.neighbours import nearest
from cellweave.weaving import Basis, Cells, batch_codes, batch_means

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks

__all__ = ["Axes", "Ground", "LinkedPair", "ground_of", "linked_pair", "spanning_pairs"]

_CLIP = 10.0
# Exact search is a matrix product; the approximate one only pays beyond this many cells.
_EXACT_UP_TO = 150_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Say how a modality's representation becomes coordinates, of fitted cells and of new ones.

    Parameters
    ----------
    basis
        The representation and its axes.
    batches
        Names of the fitted batches.
    means
        ``(n_batches, k)`` float32, what is taken off; a new batch loses their mean.
    scale
        What it is then divided by: the root of the mean variance.
    """

    basis: Basis
    batches: tuple[str, ...]
    means: np.ndarray
    scale: float

    def coordinates(self, adata: AnnData, batch_key: str | None) -> np.ndarray:
        """Return the ``(n, k)`` float32 coordinates of new cells."""
        values = np.asarray(adata.obsm[self.basis.key], dtype=np.float32)
        centre = np.vstack([self.means, self.means.mean(axis=0)])
        codes = batch_codes(adata, batch_key, self.batches)
        return np.asarray((values - centre[codes]) / np.float32(self.scale), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Hold one modality before any training, cells in canonical order.

    Parameters
    ----------
    cells
        Names and order of the cells.
    axes
        How they got their coordinates.
    coordinates
        ``(n, k)`` float32, centred per batch, of unit mean variance.
    graph
        ``(n, n)`` average over the nearest other cells.
    """

    cells: Cells
    axes: Axes
    coordinates: np.ndarray
    graph: sp.csr_matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedPair:
    """Hold the coordinates in which the cells of two modalities can be compared directly.

    Parameters
    ----------
    source, target
        Modality names.
    source_linked, target_linked
        ``(n, s)`` float32, column by column about the same thing; canonical order.
    n_features
        Linked features that were used, before any reduction.
    agreement
        Mean weight of the features: the share of variance that neighbours share, 0 to 1.
    """

    source: str
    target: str
    source_linked: np.ndarray
    target_linked: np.ndarray
    n_features: int
    agreement: float


def ground_of(cells: Cells, *, n_neighbors: int) -> Ground:
    """Return coordinates and neighbourhoods of a modality."""
    scale = float(np.sqrt(cells.representation.var(axis=0).mean()) + 1e-8)
    coordinates = cells.representation / np.float32(scale)
    return Ground(
        cells=cells,
        axes=Axes(basis=cells.basis, batches=cells.batches, means=cells.means, scale=scale),
        coordinates=coordinates,
        graph=_averaging(coordinates, n_neighbors),
    )


def _averaging(coordinates: np.ndarray, n_neighbors: int) -> sp.csr_matrix:
    n = len(coordinates)
    k = int(min(n_neighbors, n - 1))
    found, _ = nearest(
        coordinates, k=k, metric="cosine", exclude_self=True, exact_up_to=_EXACT_UP_TO
    )
    data = np.full(n * k, 1.0 / k, dtype=np.float32)
    starts = np.arange(0, n * k + 1, k)
    return sp.csr_matrix((data, found.astype(np.int32).ravel(), starts), shape=(n, n))


def spanning_pairs(links: Sequence[FeatureLinks]) -> list[FeatureLinks]:
    """Choose the links that connect all modalities as a tree, those with most links first."""
    group = {name: name for link in links for name in (link.source, link.target)}
    chosen = []
    for one in sorted(links, key=lambda k: (-_n_anchors(k), k.source, k.target)):
        a, b = group[one.source], group[one.target]
        if a != b:
            chosen.append(one)
            group = {n: a if g == b else g for n, g in group.items()}
    return chosen


def _n_anchors(links: FeatureLinks) -> int:
    return min(len(np.unique(links.rows)), len(np.unique(links.cols)))


def linked_pair(
    mdata: MuData, links: FeatureLinks, grounds: Mapping[str, Ground], *, max_dims: int
) -> LinkedPair:
    """Compute the shared coordinates of two linked modalities."""
    pair = weaving.linked_pair(links, mdata.mod)
    smoothed, shares = [], []
    for name in (links.source, links.target):
        ground = grounds[name]
        z, share = _smoothed(pair.values(name, mdata.mod[name])[ground.cells.order], ground)
        smoothed.append(z)
        shares.append(share)
    weight = np.sqrt(shares[0] * shares[1]).astype(np.float32)
    kept = weight > 0
    if not kept.any():
        weight, kept = np.ones_like(weight), np.ones_like(kept)
    for values in smoothed:
        np.multiply(values, weight, out=values)
    source, target = _jointly_reduced(smoothed, kept, max_dims)
    return LinkedPair(
        source=links.source,
        target=links.target,
        source_linked=source,
        target_linked=target,
        n_features=int(kept.sum()),
        agreement=float(weight.mean()),
    )


def _smoothed(values: np.ndarray, ground: Ground) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scores of neighbourhood means, and the share of variance that neighbours share.

    For white noise the mean over ``k`` other cells has ``1/k`` of the variance; what is above that
    is signal. ``values`` are overwritten: there is one more array of their size, no third.
    """
    values -= batch_means(values, ground.cells.batch)[ground.cells.batch]
    k = int(ground.graph.indptr[1])
    mean = np.asarray(ground.graph @ values, dtype=np.float32)
    ratio = _variances(mean) / np.maximum(_variances(values), 1e-12)
    share = np.clip((ratio - 1.0 / k) / (1.0 - 1.0 / k), 0.0, 1.0)
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
