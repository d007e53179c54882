"""How much each cell weighs for the discriminator, so that types of unlike share can align.

Clusters of each modality are compared by the cosine of their mean vectors in the pretrained
space; a cluster weighs the product-sum of its similarity to all clusters of the other modalities,
divided by its size. A type that one modality lacks thus weighs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase

import numpy as np

from cellweave.kernels.neighbours import nearest

__all__ = ["balancing_weights", "cluster"]

_NEIGHBOURS = 15
_CUTOFF = 0.5
_POWER = 4
_MOST_CELLS = 20_000


def cluster(points: np.ndarray, *, seed: int, resolution: float = 1.0) -> np.ndarray:
    """Return Leiden clusters of a cosine neighbour graph, largest first.

    Of more than 20 000 points that many are clustered, the rest follow their nearest neighbour.
    """
    n = len(points)
    if n <= _MOST_CELLS:
        return _leiden(points, seed, resolution)
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(n, _MOST_CELLS, replace=False))
    codes = _leiden(points[some], seed, resolution)
    found, _ = nearest(points, points[some], 1, metric="cosine")
    return codes[found[:, 0]]


def _leiden(points: np.ndarray, seed: int, resolution: float) -> np.ndarray:
    import random

    import igraph

    k = min(_NEIGHBOURS, len(points) - 1)
    found, _ = nearest(points, None, k, metric="cosine", exclude_self=True)
    edges = np.stack([np.repeat(np.arange(len(points)), k), found.ravel()], axis=1)
    graph = igraph.Graph(n=len(points), edges=edges).simplify()
    kept = random.getstate()
    igraph.set_random_number_generator(random.Random(seed))
    try:
        parts = graph.community_leiden(
            objective_function="modularity", resolution=resolution, n_iterations=4
        )
    finally:
        igraph.set_random_number_generator(random)
        random.setstate(kept)
    codes = np.asarray(parts.membership)
    order = np.argsort(-np.bincount(codes), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[codes]


def balancing_weights(embeddings: Mapping[str, np.ndarray], *, seed: int) -> dict[str, np.ndarray]:
    """Return a weight a cell, of mean 1 in each modality.

    Where the clusters of a modality resemble none of another, its cells keep weight 1.
    """
    names = sorted(embeddings)
    codes = {m: cluster(embeddings[m], seed=seed) for m in names}
    centres = {m: _centres(embeddings[m], codes[m]) for m in names}
    mass = _joint_mass(names, centres)
    out = {}
    for m in names:
        per_cluster = mass[m] / np.bincount(codes[m])
        weights = per_cluster[codes[m]]
        mean = weights.mean()
        out[m] = (weights / mean if mean > 0 else np.ones_like(weights)).astype(np.float32)
    return out


def _centres(points: np.ndarray, codes: np.ndarray) -> np.ndarray:
    sums = np.zeros((codes.max() + 1, points.shape[1]))
    np.add.at(sums, codes, points)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    centres: np.ndarray = sums / np.maximum(norms, 1e-12)
    return centres


def _joint_mass(names: list[str], centres: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sum the product of all pairwise similarities over all axes but one's own, by einsum."""
    axes = dict(zip(names, ascii_lowercase))
    operands, terms = [], []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            similarity = centres[a] @ centres[b].T
            operands.append(np.where(similarity < _CUTOFF, 0.0, similarity) ** _POWER)
            terms.append(axes[a] + axes[b])
    left = ",".join(terms)
    return {m: np.einsum(f"{left}->{axes[m]}", *operands, optimize=True) for m in names}
