"""The guidance graph: all features of all modalities, and what is known to belong together.

Edges are triplets (source, target, weight, sign): every link in both directions, and a self-loop
of weight 1 on every feature. The graph encoder propagates with weights divided by the square root
of the weighted in-degree; the graph decoder learns to tell edges from negative samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from cellweave.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from cellweave.records import FeatureLinks

__all__ = ["GuidanceGraph", "build_graph", "reachable", "torch_sparse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceGraph:
    """Hold the graph; the features of modality ``k`` are vertices ``offsets[k]:offsets[k + 1]``.

    Parameters
    ----------
    modalities
        Names, in vertex order.
    features
        Modality to feature names, in vertex order.
    sources, targets
        ``(n_edges,)`` int64 vertices; both directions of each link, then one loop a vertex.
    weights
        ``(n_edges,)`` float32 in ``(0, 1]``.
    signs
        ``(n_edges,)`` int8.
    """

    modalities: tuple[str, ...]
    features: Mapping[str, np.ndarray]
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    signs: np.ndarray

    @property
    def n_vertices(self) -> int:
        """Count vertices."""
        return sum(len(f) for f in self.features.values())

    @property
    def n_links(self) -> int:
        """Count links between features, each once."""
        return (len(self.sources) - self.n_vertices) // 2

    @property
    def offsets(self) -> dict[str, slice]:
        """Give the vertices of each modality."""
        ends = np.cumsum([len(self.features[m]) for m in self.modalities]).tolist()
        return {m: slice(a, b) for m, a, b in zip(self.modalities, [0, *ends[:-1]], ends)}

    def links(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return sources, targets, weights and signs of the links, each link once."""
        n = self.n_links
        return self.sources[:n], self.targets[:n], self.weights[:n], self.signs[:n]

    def adjacency(self) -> sp.csr_matrix:
        """Return the propagation matrix: rows are targets, ``sign * weight / sqrt(in-degree)``."""
        n = self.n_vertices
        degree = np.bincount(self.targets, weights=self.weights, minlength=n)
        values = self.signs * self.weights / np.sqrt(degree[self.targets])
        matrix = sp.csr_matrix((values, (self.targets, self.sources)), shape=(n, n))
        return matrix.astype(np.float32)


def build_graph(features: Mapping[str, np.ndarray], links: Sequence[FeatureLinks]) -> GuidanceGraph:
    """Build the graph over ``features`` from links restricted to them.

    Links between the same pair of features given twice (two kinds of evidence) keep the larger
    weight. Modalities are put in the order of their names, so that the graph does not depend on
    the order they came in.
    """
    modalities = tuple(sorted(features))
    ordered = {m: np.asarray(features[m]).astype(str) for m in modalities}
    starts = dict(zip(modalities, np.cumsum([0, *(len(ordered[m]) for m in modalities)]).tolist()))
    parts = [_vertex_triplets(_canonical(link), ordered, starts) for link in links]
    n = sum(len(f) for f in ordered.values())
    source, target, weight, sign = _merged(parts, n)
    loops = np.arange(n)
    return GuidanceGraph(
        modalities=modalities,
        features=ordered,
        sources=np.concatenate([source, target, loops]),
        targets=np.concatenate([target, source, loops]),
        weights=np.concatenate([weight, weight, np.ones(n)]).astype(np.float32),
        signs=np.concatenate([sign, sign, np.ones(n)]).astype(np.int8),
    )


def _canonical(link: FeatureLinks) -> FeatureLinks:
    return link if link.source <= link.target else link.reversed()


def _vertex_triplets(
    link: FeatureLinks, features: Mapping[str, np.ndarray], starts: Mapping[str, int]
) -> tuple[np.ndarray, ...]:
    unknown = {link.source, link.target} - set(features)
    if unknown:
        msg = (
            f"Links {link.source!r} to {link.target!r} name {sorted(unknown)!r}, which is not "
            f"among the modalities {sorted(features)!r}. Give links between these."
        )
        raise DataError(msg)
    kept = link.restricted(
        source_features=features[link.source], target_features=features[link.target]
    )
    rows = kept.rows.astype(np.int64) + starts[link.source]
    cols = kept.cols.astype(np.int64) + starts[link.target]
    return rows, cols, kept.weights.astype(np.float64), kept.signs.astype(np.int64)


def _merged(parts: Sequence[tuple[np.ndarray, ...]], n: int) -> tuple[np.ndarray, ...]:
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty.astype(np.float64), empty
    rows, cols, weights, signs = (np.concatenate(column) for column in zip(*parts))
    distinct = rows != cols  # a link of a feature to itself is what the loop already says
    rows, cols, weights, signs = (a[distinct] for a in (rows, cols, weights, signs))
    low, high = np.minimum(rows, cols), np.maximum(rows, cols)
    key = (low * n + high) * 2 + (signs > 0)
    order = np.lexsort((-weights, key))
    first = np.concatenate([[True], np.diff(key[order]) > 0]) if len(order) else order.astype(bool)
    keep = order[first]
    return rows[keep], cols[keep], weights[keep], signs[keep]


def reachable(
    anchors: Mapping[str, np.ndarray], links: Sequence[FeatureLinks]
) -> dict[str, np.ndarray]:
    """Return, for each modality, which of its features can be reached from the anchors.

    Parameters
    ----------
    anchors
        Modality to a boolean mask over the features that the links name.
    links
        Links over those features, in their order.
    """
    reached = {m: mask.copy() for m, mask in anchors.items()}
    changed = True
    while changed:
        changed = False
        for link in links:
            source, target = reached[link.source], reached[link.target]
            on = source[link.rows] | target[link.cols]
            before = int(source.sum() + target.sum())
            source[link.rows[on]] = True
            target[link.cols[on]] = True
            changed |= int(source.sum() + target.sum()) > before
    return reached


def torch_sparse(matrix: sp.csr_matrix, *, device: str) -> Tensor:
    """Return a SciPy matrix as a torch one by rows: its products are six times as fast."""
    csr = matrix.tocsr()
    csr.sum_duplicates()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.as_tensor(csr.indptr.astype(np.int64)),
            torch.as_tensor(csr.indices.astype(np.int64)),
            torch.as_tensor(csr.data),
            size=csr.shape,
            device=device,
            check_invariants=False,
        )
