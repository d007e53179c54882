"""Graphs over genes along which a response is carried to genes that were never perturbed.

GEARS (Roohani, Huang and Leskovec 2024) has two: co-expression, and shared gene sets (there GO
terms); each gene keeps its 20 strongest neighbours. Both are here as sparse matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.kernels.columns import column_means
from cellweave_tasks.features import as_dense
from cellweave_tasks.gene_sets import GeneSets

__all__ = ["GeneGraph", "coexpression_graph", "correlations", "gene_set_graph"]

_TOP = 20
_MOST_CELLS = 5000
_MOST_GENES = 5000
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneGraph:
    """A symmetric weighted graph over named genes, normalised as graph convolutions do."""

    names: np.ndarray
    step: sp.csr_matrix

    def places(self, genes: list[str]) -> np.ndarray:
        """Return where genes stand, −1 for those the graph lacks."""
        return pd.Index(self.names).get_indexer(pd.Index(genes))

    def hops(self, genes: list[str], n: int) -> list[sp.csr_matrix]:
        """Return the one-hot rows of genes carried 0, 1 … ``n`` steps; zero rows for unknown."""
        at = self.places(genes)
        rows = np.flatnonzero(at >= 0)
        shape = (len(genes), len(self.names))
        found = [sp.csr_matrix((np.ones(len(rows)), (rows, at[rows])), shape=shape)]
        for _ in range(n):
            found.append(sp.csr_matrix(found[-1] @ self.step))
        return found


def coexpression_graph(
    values: np.ndarray | sp.csr_matrix,
    names: np.ndarray,
    *,
    keep: np.ndarray,
    threshold: float = 0.1,
    seed: int = 0,
) -> GeneGraph:
    """Connect genes by absolute correlation over cells.

    Parameters
    ----------
    values
        Cells by genes.
    names
        The genes.
    keep
        Genes that stay even when not among the 5 000 most variable.
    threshold
        Weakest correlation that connects.
    seed
        Of the cells drawn from very many.
    """
    n = values.shape[0]
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(n, _MOST_CELLS, replace=False)) if n > _MOST_CELLS else slice(None)
    some = values[rows]
    squares = some.multiply(some) if sp.issparse(some) else np.square(some)
    variance = column_means(squares) - column_means(some) ** 2
    variance[np.isin(names, keep)] = np.inf
    columns = np.sort(np.argsort(-variance, kind="stable")[:_MOST_GENES])
    strength = np.abs(correlations(some[:, columns]))
    strength[strength < threshold] = 0
    return GeneGraph(names=names[columns], step=_normalised(_strongest(strength)))


def gene_set_graph(sets: GeneSets, *, threshold: float = 0.1) -> GeneGraph:
    """Connect genes by the share of their sets that they have in common (Jaccard)."""
    member = sp.csr_matrix(sets.members.T)
    used = np.flatnonzero(np.diff(member.indptr))
    member = member[used]
    counts = np.diff(member.indptr).astype(np.float64)
    blocks = []
    for start in range(0, len(used), _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(used)))
        both = (member[rows] @ member.T).toarray()
        share = both / np.maximum(counts[rows, None] + counts - both, 1)
        share[np.arange(len(share)), np.arange(rows.start, rows.stop)] = 0
        share[share < threshold] = 0
        blocks.append(_strongest(share))
    return GeneGraph(names=sets.genes[used], step=_normalised(sp.vstack(blocks).tocsr()))


def correlations(values: np.ndarray | sp.csr_matrix) -> np.ndarray:
    """Return the Pearson correlations of columns, 0 on the diagonal and for constant columns.

    Cells are centred and made dense some at a time: memory is that of the result.
    """
    mean = column_means(values)
    products = np.zeros((len(mean), len(mean)))
    for start in range(0, values.shape[0], _ROWS_AT_ONCE):
        centred = as_dense(values[start : start + _ROWS_AT_ONCE]) - mean
        products += centred.T @ centred
    size = np.sqrt(np.diag(products))
    # The mean of a constant column is its value up to rounding.
    rounding = 1e-12 + 1e-10 * np.sqrt(values.shape[0]) * np.abs(mean)
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > rounding)
    found: np.ndarray = products * inverse * inverse[:, None]
    np.fill_diagonal(found, 0.0)
    return found


def _strongest(strength: np.ndarray) -> sp.csr_matrix:
    """Keep the strongest entries of each row; ties go to the lower column."""
    top = min(_TOP, strength.shape[1])
    at = np.argsort(-strength, axis=1, kind="stable")[:, :top]
    rows = np.repeat(np.arange(len(strength)), top)
    values = strength[rows, at.ravel()]
    shape = strength.shape
    found = sp.csr_matrix((values, (rows, at.ravel())), shape=shape)
    found.eliminate_zeros()
    return found


def _normalised(graph: sp.csr_matrix) -> sp.csr_matrix:
    """Make it symmetric and divide by the roots of both degrees."""
    both = sp.csr_matrix(graph.maximum(graph.T))
    degree = np.asarray(both.sum(axis=1)).ravel()
    root = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1e-12)), 0.0)
    return sp.csr_matrix(sp.diags(root) @ both @ sp.diags(root))
