r"""Are types as near to each other as biology has them: scGraph, and scGraph-OntoRWR.

scGraph (Islander, Wang et al. 2024): in each batch of 100 cells or more, 1 000 variable genes, ten
principal components, the trimmed mean of each type of ten cells or more, and the distances between
these; each column over its largest; the mean over batches is the consensus :math:`C`. With
distances :math:`D` of the embedding made alike, the score is the mean over types of the correlation
of column :math:`D_{\cdot t}` with :math:`C_{\cdot t}`, the type itself (0, 0) among the pairs as in
the published definition; weighted: weights :math:`1 / C`, the type itself left out.

OntoRWR (scFM-Bench): the consensus is replaced by distances in the Cell Ontology. Random walk with
restart :math:`Q = r I + (1 - r) Q P`, :math:`r = 0.7`, then :math:`L = \log(Q + n^{-2}) -
\log n^{-2} ≈ U S V^T` of rank 256, and Euclidean distances in :math:`U \sqrt S`. The published
edges weigh by the likeness of text embeddings of the two terms; without such, all weigh the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import trim_mean

from cellweave.errors import DataError
from cellweave.preparing.components import principal_components

if TYPE_CHECKING:
    from cellweave_tasks.ontology import Ontology

__all__ = [
    "TypeDistances",
    "batch_consensus",
    "column_agreement",
    "embedding_distances",
    "ontology_distances",
]

_RANK = 256
_ENOUGH = 1e-4
_MOST_STEPS = 49


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDistances:
    """Distances between types, ``(n, n)``; NaN where no batch has both."""

    types: tuple[str, ...]
    values: np.ndarray


def embedding_distances(
    points: np.ndarray, labels: np.ndarray, *, min_cells: int = 10, trim: float = 0.2
) -> TypeDistances:
    """Return distances between the trimmed means of types, each column over its largest."""
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    kept = [c for c in range(len(names)) if (codes == c).sum() >= min_cells]
    if len(kept) < 2:
        return TypeDistances(types=tuple(names[kept].tolist()), values=np.zeros((len(kept),) * 2))
    centres = np.stack([trim_mean(points[codes == c], trim, axis=0) for c in kept])
    gaps = np.sqrt(((centres[:, None] - centres[None]) ** 2).sum(axis=2))
    largest = np.maximum(gaps.max(axis=0), 1e-300)
    return TypeDistances(types=tuple(names[kept].tolist()), values=gaps / largest)


def batch_consensus(
    values: np.ndarray | sp.csr_matrix,
    labels: np.ndarray,
    batches: np.ndarray,
    *,
    min_batch: int = 100,
    min_cells: int = 10,
    n_genes: int = 1000,
    trim: float = 0.2,
    seed: int = 0,
) -> TypeDistances:
    """Return the mean over batches of distances between types within each batch.

    Parameters
    ----------
    values
        Normalised logarithms, cells × genes.
    labels, batches
        One a cell.
    min_batch, min_cells
        Smallest batch, and smallest type within a batch, that count.
    n_genes
        Variable genes of a batch.
    trim
        Share cut from each tail before the mean (Islander takes 0.05).
    seed
        Of the randomized solver, for very wide data.
    """
    from cellweave_tasks.features import as_dense, most_variable

    tables = []
    for batch in np.unique(batches):
        rows = np.flatnonzero(batches == batch)
        if len(rows) < min_batch:
            continue
        part = values[rows]
        dense = as_dense(part[:, most_variable(part, n_genes)]).astype(np.float64)
        axes = principal_components(dense, 10, seed=seed)[0]
        found = embedding_distances(axes, labels[rows], min_cells=min_cells, trim=trim)
        if len(found.types) > 1:
            tables.append(pd.DataFrame(found.values, index=found.types, columns=found.types))
    if not tables:
        msg = (
            f"no batch has {min_batch} cells, and two types of {min_cells} cells each. scGraph "
            "needs such a batch"
        )
        raise DataError(msg)
    types = sorted({name for table in tables for name in table.index})
    stack = np.stack([t.reindex(index=types, columns=types).to_numpy() for t in tables])
    known = np.isfinite(stack)
    mean = np.where(known, stack, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return TypeDistances(types=tuple(types), values=np.where(known.any(axis=0), mean, np.nan))


def column_agreement(found: TypeDistances, wanted: TypeDistances, *, how: str = "pearson") -> float:
    """Return the mean over types of the correlation of their columns.

    Parameters
    ----------
    found, wanted
        Of the embedding, and the consensus; types of one only are left out.
    how
        ``"pearson"``, ``"spearman"`` or ``"weighted"``.
    """
    types = [t for t in wanted.types if t in set(found.types)]
    if len(types) < 3:
        msg = f"{len(types)} types are in the embedding and in the consensus; three are needed"
        raise DataError(msg)
    ours, theirs = (_square(table, types) for table in (found, wanted))
    scores = [_correlation(ours[:, t], theirs[:, t], how, own=t) for t in range(len(types))]
    finite = [s for s in scores if np.isfinite(s)]
    if not finite:
        msg = "all types lie equally far from each other: no correlation exists"
        raise DataError(msg)
    return float(np.mean(finite))


def ontology_distances(
    ontology: Ontology,
    terms: Mapping[str, str],
    *,
    restart: float = 0.7,
    prefix: str = "CL:",
    weights: Mapping[tuple[str, str], float] | None = None,
) -> TypeDistances:
    """Return the distances between labels in the ontology.

    Parameters
    ----------
    ontology
        Terms and their parents.
    terms
        Label to term id.
    restart
        Probability of starting again.
    prefix
        Terms that the walk may enter.
    weights
        ``(term, parent)`` to the weight of the edge, e.g. the likeness of their descriptions; 1
        where not given.
    """
    nodes = sorted({t for t in ontology.parents if t.startswith(prefix)} | set(terms.values()))
    place = {term: i for i, term in enumerate(nodes)}
    edges = [(t, p) for t in nodes for p in ontology.parents.get(t, ()) if p in place]
    strength = [(weights or {}).get(edge, 1.0) for edge in edges]
    walk = _walk([(place[a], place[b]) for a, b in edges], strength, len(nodes))
    spots = _compressed(_restarted(walk, restart))
    labels = sorted(terms)
    chosen = spots[[place[terms[label]] for label in labels]]
    gaps = np.sqrt(((chosen[:, None] - chosen[None]) ** 2).sum(axis=2))
    return TypeDistances(types=tuple(labels), values=gaps)


def _walk(edges: Sequence[tuple[int, int]], strength: Sequence[float], n: int) -> sp.csr_matrix:
    """Return the row-stochastic matrix of the undirected graph; a lone node stays where it is."""
    pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    graph = sp.csr_matrix((np.asarray(strength, dtype=np.float64), pairs.T), shape=(n, n))
    graph = graph + graph.T
    total = np.asarray(graph.sum(axis=1)).ravel()
    graph = graph + sp.diags((total == 0).astype(np.float64))
    return sp.csr_matrix(sp.diags(1 / np.where(total == 0, 1.0, total)) @ graph)


def _restarted(walk: sp.csr_matrix, restart: float) -> np.ndarray:
    transposed = sp.csr_matrix(walk.T)
    start = np.eye(walk.shape[0])
    state = start
    for _ in range(_MOST_STEPS):
        # (Q P)^T = P^T Q^T keeps the sparse matrix on the left.
        moved = restart * start + (1 - restart) * (transposed @ state.T).T
        change = float(np.linalg.norm(moved - state))
        state = moved
        if change < _ENOUGH:
            break
    return state


def _compressed(state: np.ndarray) -> np.ndarray:
    from scipy.sparse.linalg import svds

    n = len(state)
    logs = np.log(state + 1 / n**2) - np.log(1 / n**2)
    if n <= _RANK + 1:
        left, sizes, _ = np.linalg.svd(logs)
    else:
        left, sizes, _ = svds(logs, k=_RANK, v0=np.ones(n))
    return np.asarray(left[:, : len(sizes)] * np.sqrt(sizes))


def _square(table: TypeDistances, types: Sequence[str]) -> np.ndarray:
    at = [table.types.index(t) for t in types]
    return table.values[np.ix_(at, at)]


def _correlation(ours: np.ndarray, theirs: np.ndarray, how: str, *, own: int) -> float:
    known = np.isfinite(ours) & np.isfinite(theirs)
    if how == "weighted":
        known[own] = False
    a, b = ours[known], theirs[known]
    weights = 1 / np.maximum(b, 1e-12) if how == "weighted" else np.ones(len(a))
    if how == "spearman":
        a, b = (pd.Series(v).rank().to_numpy() for v in (a, b))
    if len(a) < 2:
        return float("nan")
    a, b = a - np.average(a, weights=weights), b - np.average(b, weights=weights)
    size = np.sqrt((weights * a**2).sum() * (weights * b**2).sum())
    return float((weights * a * b).sum() / size) if size > 0 else float("nan")
