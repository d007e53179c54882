"""Integration consistency: whether linked features rise and fall together.

For a number of metacells the cells of all modalities are clustered together in the learned space;
each modality's values are added up by cluster, and every link is scored by Spearman's correlation
of its two features over the clusters that hold cells of both. The consistency is
sum(sign * weight * correlation) / sum(weight): near 0 when the alignment is arbitrary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.stats import rankdata
from sklearn.cluster import MiniBatchKMeans

if TYPE_CHECKING:
    from cellweave_glue.graph import GuidanceGraph
    from cellweave_glue.inputs import ModalityInput

__all__ = [
    "chosen_size",
    "integration_consistency",
    "link_correlations",
    "metacell_profiles",
]

_SIZES = (10, 20, 50, 100, 200)
_LEAST_SHARED = 3


def integration_consistency(
    embeddings: Mapping[str, np.ndarray],
    data: Mapping[str, ModalityInput],
    graph: GuidanceGraph,
    *,
    sizes: tuple[int, ...] = _SIZES,
    seed: int = 0,
) -> dict[int, float]:
    """Return number of metacells to consistency; sizes beyond the smallest modality are left out.

    A size at which fewer than three metacells hold cells of all modalities gives NaN.
    """
    smallest = min(len(e) for e in embeddings.values())
    return {n: _consistency(embeddings, data, graph, n, seed) for n in sizes if n <= smallest}


def chosen_size(sizes: Sequence[int], n_cells: int) -> int:
    """Return the number of metacells to judge by: the nearest to the root of the cells.

    Few metacells flatter (any rough match makes ten clusters agree), many are noise.
    """
    return min(sizes, key=lambda n: (abs(np.log(n) - 0.5 * np.log(n_cells)), n))


def _consistency(
    embeddings: Mapping[str, np.ndarray],
    data: Mapping[str, ModalityInput],
    graph: GuidanceGraph,
    n: int,
    seed: int,
) -> float:
    names = graph.modalities
    joint = np.concatenate([embeddings[m] for m in names])
    means = MiniBatchKMeans(
        n, random_state=seed, batch_size=max(1024, n), n_init=1, max_iter=50
    ).fit_predict(joint)
    ends = np.cumsum([len(embeddings[m]) for m in names])[:-1]
    codes = dict(zip(names, np.split(means, ends)))
    counts = np.stack([np.bincount(codes[m], minlength=n) for m in names])
    shared = np.flatnonzero((counts > 0).all(0))
    if len(shared) < _LEAST_SHARED:
        return float("nan")
    profiles = [metacell_profiles(data[m], codes[m], n)[shared] for m in names]
    return _weighted(graph, np.concatenate(profiles, axis=1))


def metacell_profiles(data: ModalityInput, codes: np.ndarray, n: int) -> np.ndarray:
    """Return ``(n, n_features)`` profiles: log-normalised sums of counts, or means of values."""
    members = sp.csr_matrix(
        (np.ones(len(codes), dtype=np.float32), (codes, np.arange(len(codes)))),
        shape=(n, len(codes)),
    )
    sums: np.ndarray = (members @ data.values).toarray()
    if data.likelihood == "normal":
        return sums / np.maximum(np.bincount(codes, minlength=n), 1)[:, None]
    totals = np.maximum(sums.sum(1, keepdims=True), 1.0)
    return np.log1p(sums / totals * 1e4)


def link_correlations(profiles: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each link; NaN where a feature does not vary."""
    ranks = rankdata(profiles, axis=0)
    ranks -= ranks.mean(0)
    norms = np.linalg.norm(ranks, axis=0)
    ranks /= np.where(norms > 0, norms, np.nan)
    out: np.ndarray = np.einsum("ij,ij->j", ranks[:, source], ranks[:, target])
    return out


def _weighted(graph: GuidanceGraph, profiles: np.ndarray) -> float:
    source, target, weight, sign = graph.links()
    correlation = link_correlations(profiles, source, target)
    known = np.isfinite(correlation)
    if not known.any():
        return float("nan")
    total = (sign * weight * correlation)[known].sum()
    return float(total / weight[known].sum())
