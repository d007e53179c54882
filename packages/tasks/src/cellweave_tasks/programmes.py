"""Gene programmes: clusters of a gene network, what they are enriched in, their score in cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cellweave.errors import DataError
from cellweave.evaluation.clusters import leiden
from cellweave_tasks.features import features_of
from cellweave_tasks.gene_sets import Sets, enrichment, gene_sets_on
from cellweave_tasks.network_tables import Candidates

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Programmes", "programmes_of"]

_MOST_SETS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Programmes:
    """Hold programmes, largest first, with the gene sets each is most enriched in."""

    genes: Mapping[str, np.ndarray]
    enriched: pd.DataFrame

    def score(self, adata: AnnData) -> pd.DataFrame:
        """Return for each cell the mean of a programme's standardised genes, minus that of all."""
        values = features_of(adata, None)
        names = pd.Index(np.asarray(adata.var_names, dtype=str))
        squares = values.multiply(values) if hasattr(values, "multiply") else np.square(values)
        mean = np.asarray(values.mean(axis=0)).ravel()
        spread = np.sqrt(np.maximum(np.asarray(squares.mean(axis=0)).ravel() - mean**2, 0))
        weight = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-8)
        table = np.zeros((len(names), len(self.genes)))
        for column, genes in enumerate(self.genes.values()):
            at = names.get_indexer(genes)
            at = at[at >= 0]
            table[at, column] = weight[at] / max(len(at), 1)
        table -= (weight / len(names))[:, None]
        found = np.asarray(values @ table) - mean @ table
        return pd.DataFrame(found, index=adata.obs_names, columns=list(self.genes))


def programmes_of(
    pairs: Candidates,
    scores: np.ndarray,
    universe: np.ndarray,
    *,
    n_neighbors: int,
    resolution: float,
    min_genes: int,
    gene_sets: Sets | None,
    seed: int,
) -> Programmes:
    """Cluster genes by Leiden on the strongest links of each, either way."""
    genes = np.union1d(pairs.regulators, pairs.targets)
    strength = np.full((len(genes), len(genes)), -np.inf)
    rows, columns = (np.searchsorted(genes, g) for g in (pairs.regulators, pairs.targets))
    strength[np.ix_(rows, columns)] = np.where(pairs.asked, scores, -np.inf)
    strength = np.maximum(strength, strength.T)
    k = min(n_neighbors, len(genes) - 1)
    at = np.argsort(-strength, axis=1, kind="stable")[:, :k]
    own = np.repeat(np.arange(len(genes)), k)
    linked = np.isfinite(strength[own, at.ravel()])
    low, high = np.minimum(own, at.ravel())[linked], np.maximum(own, at.ravel())[linked]
    edges = np.unique(np.stack([low, high], axis=1), axis=0)
    codes = leiden(edges, len(genes), resolutions=[resolution], seed=seed)[0]
    clusters = [genes[codes == c] for c in np.unique(codes)]
    kept = sorted((c for c in clusters if len(c) >= min_genes), key=lambda c: (-len(c), c[0]))
    if not kept:
        msg = (
            f"No cluster of {len(genes)} genes has {min_genes} genes at resolution {resolution!r}. "
            "Lower the resolution, or min_genes."
        )
        raise DataError(msg)
    named = {f"programme {i}": c for i, c in enumerate(kept, start=1)}
    return Programmes(genes=named, enriched=_enriched(named, universe, gene_sets))


def _enriched(
    named: Mapping[str, np.ndarray], universe: np.ndarray, gene_sets: Sets | None
) -> pd.DataFrame:
    if gene_sets is None:
        return pd.DataFrame(columns=["programme", "set", "overlap", "size", "expected", "p", "q"])
    sets = gene_sets_on(gene_sets, universe)
    parts = [
        enrichment(genes, sets).head(_MOST_SETS).assign(programme=name)
        for name, genes in named.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["programme", *[c for c in table if c != "programme"]]]
