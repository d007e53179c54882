"""Samples of the guidance graph for its decoder: edges by weight, and what is no edge by degree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numba import njit

if TYPE_CHECKING:
    from torch import Tensor

    from cellweave_glue.graph import GuidanceGraph

__all__ = ["EdgeBatch", "EdgeSampler"]

_MAX_ROUNDS = 8
_MIX = 0x9E3779B97F4A7C1
_BYTES_AN_EDGE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeBatch:
    """Sampled edges: the first ``n_positive`` exist, the rest do not."""

    sources: Tensor
    targets: Tensor
    signs: Tensor
    n_positive: int


class EdgeSampler:
    """Draw edges by weight and non-edges by degree, all at once.

    A negative keeps source and sign of its positive and redraws the target with probability
    proportional to the weighted degree, self-loops left out. Existing edges are drawn again.

    Parameters
    ----------
    graph
        The graph.
    n_negatives
        Negatives for each positive.
    n_batches
        A batch holds this part of a sweep over the total edge weight.
    device
        Where the tables live.
    """

    def __init__(
        self, graph: GuidanceGraph, *, n_negatives: int, n_batches: int, device: str
    ) -> None:
        self._n = graph.n_vertices
        self._n_negatives = n_negatives if graph.n_links else 0
        self.n_positive = max(1, int(np.ceil(np.round(graph.weights.sum()) / n_batches)))
        self._sources = torch.as_tensor(graph.sources, device=device)
        self._targets = torch.as_tensor(graph.targets, device=device)
        self._signs = torch.as_tensor(graph.signs.astype(np.float32), device=device)
        key = (graph.sources * self._n + graph.targets) * 2 + (graph.signs > 0)
        self._known = _KeySet(np.sort(key), device)
        self._by_weight = _Urn(graph.weights, device)
        plain = slice(0, 2 * graph.n_links)
        degree = np.bincount(graph.targets[plain], weights=graph.weights[plain], minlength=self._n)
        self._by_degree = _Urn(degree, device)

    def draw(self, generator: torch.Generator) -> EdgeBatch:
        """Return one batch of positives followed by negatives."""
        edges = self._by_weight.draw(self.n_positive, generator)
        source, target, sign = (
            torch.take(t, edges) for t in (self._sources, self._targets, self._signs)
        )
        negative = edges.repeat_interleave(self._n_negatives)  # neighbours in memory share rows
        from_, to, kept = self._negatives(negative, generator)
        return EdgeBatch(
            sources=torch.cat([source, from_]),
            targets=torch.cat([target, to]),
            signs=torch.cat([sign, torch.take(self._signs, kept)]),
            n_positive=self.n_positive,
        )

    def _negatives(
        self, edges: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Redraw targets until none is an edge; what still collides after that is left out."""
        if not len(edges):
            return edges, edges, edges
        source = torch.take(self._sources, edges)
        sign = (torch.take(self._signs, edges) > 0).long()
        target = self._by_degree.draw(len(edges), generator)
        clash = self._clashes(source, target, sign, torch.arange(len(edges), device=edges.device))
        for _ in range(_MAX_ROUNDS):
            if not len(clash):
                return source, target, edges
            target[clash] = self._by_degree.draw(len(clash), generator)
            clash = self._clashes(source, target, sign, clash)
        free = torch.ones(len(edges), dtype=torch.bool, device=edges.device)
        free[clash] = False
        return source[free], target[free], edges[free]

    def _clashes(self, source: Tensor, target: Tensor, sign: Tensor, at: Tensor) -> Tensor:
        key = (source[at] * self._n + target[at]) * 2 + sign[at]
        return at[self._known.holds(key)]


class _KeySet:
    """A set of 63-bit keys: a table of hashes says no at once, a sorted list decides the rest."""

    def __init__(self, ordered: np.ndarray, device: str) -> None:
        self._ordered = torch.as_tensor(ordered, device=device)
        size = 1 << int(np.ceil(np.log2(max(_BYTES_AN_EDGE * len(ordered), 2))))
        self._mask = size - 1
        self._table = torch.zeros(size, dtype=torch.bool, device=device)
        self._table[self._hash(self._ordered)] = True

    def _hash(self, keys: Tensor) -> Tensor:
        return ((keys * _MIX) >> 24) & self._mask

    def holds(self, keys: Tensor) -> Tensor:
        """Return the positions of the keys that are in the set."""
        maybe = torch.take(self._table, self._hash(keys)).nonzero().squeeze(1)
        asked = keys[maybe]
        at = torch.searchsorted(self._ordered, asked).clamp_(max=len(self._ordered) - 1)
        return maybe[self._ordered[at] == asked]


class _Urn:
    """Draws with replacement by weight, at constant cost a draw (Walker's alias method)."""

    def __init__(self, weights: np.ndarray, device: str) -> None:
        values = np.asarray(weights, dtype=np.float64)
        total = values.sum()
        shares = values * (len(values) / total) if total > 0 else np.ones(len(values))
        keep, alias = _alias_table(shares)
        self._keep = torch.as_tensor(keep, device=device)
        self._alias = torch.as_tensor(alias, device=device)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return ``n`` positions."""
        size = len(self._keep)
        u = torch.rand(n, generator=generator, device=self._keep.device, dtype=torch.float64)
        u *= size
        at = u.long().clamp_(max=size - 1)
        return torch.where(u - at < torch.take(self._keep, at), at, torch.take(self._alias, at))


@njit(cache=True, nogil=True)
def _alias_table(shares):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Split shares of mean 1 into columns of height 1 with at most two owners each."""
    n = len(shares)
    keep, alias = shares.copy(), np.arange(n)
    small, large = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    n_small, n_large = 0, 0
    for i in range(n):
        if shares[i] < 1.0:
            small[n_small] = i
            n_small += 1
        else:
            large[n_large] = i
            n_large += 1
    while n_small > 0 and n_large > 0:
        n_small -= 1
        low, high = small[n_small], large[n_large - 1]
        alias[low] = high
        keep[high] -= 1.0 - keep[low]
        if keep[high] < 1.0:
            n_large -= 1
            small[n_small] = high
            n_small += 1
    for i in range(n_small):  # left over by rounding only, unless the share is 0
        keep[small[i]] = 1.0
    for i in range(n_large):
        keep[large[i]] = 1.0
    return keep, alias
