"""Small data whose structure is known, and plain measures of whether it was found."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from cellweave.records import FeatureLinks

__all__ = [
    "copy_of",
    "distances",
    "foscttm",
    "links_between",
    "majority_share",
    "neighbour_vote",
    "planted",
    "without_truth",
]


def planted(
    modalities: Sequence[str],
    *,
    n_cells: int = 240,
    prepared: bool = True,
    seed: int = 0,
    **settings: Any,
) -> MuData:
    """Return a fresh copy of small simulated data: three clear types, the truth known."""
    kept = _simulated(tuple(modalities), n_cells, prepared, seed, tuple(sorted(settings.items())))
    return copy_of(kept)


@lru_cache(maxsize=16)
def _simulated(
    modalities: tuple[str, ...],
    n_cells: int,
    prepared: bool,
    seed: int,
    settings: tuple[tuple[str, Any], ...],
) -> MuData:
    from cellweave.datasets import simulate

    chosen: dict[str, Any] = {
        "n_types": 3,
        "n_genes": 300,
        "n_peaks": 450,
        "n_panel": 120,
        "within_type": 0.25,
        "rna_depth": 3000.0,
        "atac_depth": 900.0,
    }
    chosen |= dict(settings)
    return simulate(n_cells=n_cells, modalities=modalities, prepared=prepared, seed=seed, **chosen)


def copy_of(mdata: MuData) -> MuData:
    """Return a deep copy that shares nothing."""
    from cellweave.datasets.joining import joined

    return joined({k: a.copy() for k, a in mdata.mod.items()}, dict(mdata.uns))


def without_truth(mdata: MuData) -> MuData:
    """Return a copy from which everything that tells the answer has been taken."""
    bare = copy_of(mdata)
    bare.uns.pop("truth", None)
    for adata in bare.mod.values():
        adata.obs = adata.obs.drop(columns=["cell_type", "pairing", "niche"], errors="ignore")
        adata.obsm.pop("true_state", None)
    return bare


def links_between(mdata: MuData) -> tuple[FeatureLinks, ...]:
    """Return the true links of simulated data."""
    from cellweave.datasets import true_links

    return tuple(links for links in true_links(mdata) if len(links))


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances, all against all."""
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    return np.maximum(squares - 2 * left @ right.T, 0.0)


def neighbour_vote(
    queries: np.ndarray,
    references: np.ndarray,
    query_labels: np.ndarray,
    reference_labels: np.ndarray,
    *,
    k: int = 7,
    skip_self: bool = False,
) -> float:
    """Return how often the nearest references have the label of the query."""
    away = distances(queries, references)
    if skip_self:
        np.fill_diagonal(away, np.inf)
    nearest = np.argsort(away, axis=1, kind="stable")[:, :k]
    same = np.asarray(reference_labels)[nearest] == np.asarray(query_labels)[:, None]
    return float(same.mean())


def majority_share(labels: np.ndarray) -> float:
    """Return what always guessing the commonest label would score."""
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return float(counts.max() / counts.sum())


def foscttm(left: np.ndarray, right: np.ndarray) -> float:
    """Return the share of cells closer than the true partner; rows of both are the same cells."""
    away = distances(left, right)
    own = np.diag(away)
    return float(((away < own[:, None]).mean() + (away < own[None, :]).mean()) / 2)
