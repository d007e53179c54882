"""Lay out what the networks take: each modality's coordinates, and the tree of linked pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.weaving import Basis, Cells, averaging, batch_codes

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import FeatureLinks

__all__ = ["Axes", "Ground", "ground_of", "spanning_pairs"]


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


def ground_of(cells: Cells, *, n_neighbors: int) -> Ground:
    """Return coordinates and neighbourhoods of a modality."""
    scale = float(np.sqrt(cells.representation.var(axis=0).mean()) + 1e-8)
    coordinates = cells.representation / np.float32(scale)
    return Ground(
        cells=cells,
        axes=Axes(basis=cells.basis, batches=cells.batches, means=cells.means, scale=scale),
        coordinates=coordinates,
        graph=averaging(coordinates, n_neighbors),
    )


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
