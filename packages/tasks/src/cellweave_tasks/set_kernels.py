r"""A block of columns for each gene set, whose inner products are that set's kernel.

- ``linear``: the set's first principal axes (up to 10), :math:`k(x, y) = x_S^\top P P^\top y_S`;
- ``fourier``: random Fourier features of the Gaussian kernel on the set's genes (Rahimi and Recht
  2007), :math:`k(x, y) = e^{-\lVert x_S - y_S \rVert^2 / 2 \sigma_S^2}`, with :math:`\sigma_S` the
  median distance of training cells.

Genes are standardised on training cells; each block is centred and scaled to a total variance of
1, so that a large set has no advantage over a small one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from cellweave_tasks.features import as_dense
from cellweave_tasks.gene_sets import GeneSets

__all__ = ["KERNELS", "SetFeatures"]

KERNELS = ("fourier", "linear")
_AXES = 10
_MOST_DISTANCES = 300


@dataclass(slots=True, kw_only=True)
class SetFeatures:
    """Fitted maps from expression to the blocks of all sets."""

    sets: GeneSets
    kernel: str
    n_frequencies: int = 32
    seed: int = 0
    mean: np.ndarray = field(init=False)
    scale: np.ndarray = field(init=False)
    maps: list[np.ndarray] = field(init=False, default_factory=list)
    centres: list[np.ndarray] = field(init=False, default_factory=list)
    sizes: list[float] = field(init=False, default_factory=list)

    def fit(self, values: np.ndarray | sp.csr_matrix) -> np.ndarray:
        """Learn from training cells and return their blocks, side by side."""
        self.mean = np.asarray(values.mean(axis=0)).ravel()
        squares = values.multiply(values) if sp.issparse(values) else np.square(values)
        spread = np.asarray(squares.mean(axis=0)).ravel() - self.mean**2
        self.scale = np.sqrt(np.maximum(spread, 0.0)) + 1e-2
        rng = np.random.default_rng(self.seed)
        self.maps, self.centres, self.sizes = [], [], []
        blocks = []
        columns = _by_column(values)
        for i in range(len(self.sets.names)):
            points = self._points(columns, i)
            self.maps.append(self._map(points, rng))
            block = self._raw(points, i)
            self.centres.append(block.mean(axis=0))
            total = float(block.var(axis=0).sum())
            self.sizes.append(np.sqrt(total) if total > 1e-12 else 1.0)
            blocks.append(self._scaled(block, i))
        return np.hstack(blocks)

    def __call__(self, values: np.ndarray | sp.csr_matrix) -> np.ndarray:
        """Return the blocks of other cells."""
        columns = _by_column(values)
        return np.hstack(
            [
                self._scaled(self._raw(self._points(columns, i), i), i)
                for i in range(len(self.sets.names))
            ]
        )

    @property
    def offsets(self) -> np.ndarray:
        """Give where each block begins, and where the last ends."""
        return np.concatenate([[0], np.cumsum([len(c) for c in self.centres])])

    def _points(self, values: np.ndarray | sp.csr_matrix, at: int) -> np.ndarray:
        columns = self.sets.columns(at)
        return (as_dense(values[:, columns]) - self.mean[columns]) / self.scale[columns]

    def _map(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.kernel == "linear":
            centred = points - points.mean(axis=0)
            _, axes = np.linalg.eigh(centred.T @ centred)
            return np.asarray(axes[:, ::-1][:, :_AXES])
        some = points[np.sort(rng.permutation(len(points))[:_MOST_DISTANCES])]
        own = (some**2).sum(axis=1)
        squares = own[:, None] + own - 2 * some @ some.T
        apart = squares[np.triu_indices(len(some), k=1)]
        width = float(np.sqrt(np.median(np.maximum(apart, 0)))) if len(apart) else 1.0
        drawn = rng.normal(size=(points.shape[1], self.n_frequencies))
        return drawn / (width if width > 1e-6 else 1.0)

    def _raw(self, points: np.ndarray, at: int) -> np.ndarray:
        along = points @ self.maps[at]
        return along if self.kernel == "linear" else np.hstack([np.cos(along), np.sin(along)])

    def _scaled(self, block: np.ndarray, at: int) -> np.ndarray:
        return ((block - self.centres[at]) / self.sizes[at]).astype(np.float32)


def _by_column(values: np.ndarray | sp.csr_matrix) -> Any:
    """Store sparse values by column: sets are read hundreds of times."""
    return sp.csc_matrix(values) if sp.issparse(values) else values
