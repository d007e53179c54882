r"""Gene sets: from a GMT file or a library on the net, as a table over genes; enrichment in a list.

Enrichment is the hypergeometric tail with the measured genes as universe, by
:math:`P(X \ge k)` for :math:`k` of :math:`n` listed genes in a set of :math:`K` among :math:`N`,
with Benjamini-Hochberg over the sets.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import false_discovery_control, hypergeom

from cellweave.data.gmt import read_gmt
from cellweave.errors import DataError, MissingDependencyError, UnreadableFileError

__all__ = ["GeneSets", "enrichment", "gene_sets_on", "online_gene_sets"]

Sets = str | Path | Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneSets:
    """Hold sets as rows of a 0/1 table (CSR) over ``genes``."""

    names: np.ndarray
    genes: np.ndarray
    members: sp.csr_matrix

    @property
    def sizes(self) -> np.ndarray:
        """Count the genes of each set."""
        return np.diff(self.members.indptr)

    def columns(self, at: int) -> np.ndarray:
        """Return the positions of the genes of one set."""
        return self.members.indices[self.members.indptr[at] : self.members.indptr[at + 1]]


def gene_sets_on(
    sets: Sets,
    genes: np.ndarray,
    *,
    min_genes: int = 5,
    max_genes: int = 500,
    max_sets: int | None = None,
) -> GeneSets:
    """Return the sets that hold ``min_genes`` to ``max_genes`` of the genes given.

    Parameters
    ----------
    sets
        A GMT file, or name to genes.
    genes
        Names of the measured genes.
    min_genes, max_genes
        Limits of the number of measured genes.
    max_sets
        Keep the largest; ``None`` keeps all.
    """
    found = sets if isinstance(sets, Mapping) else read_gmt(sets)
    index = pd.Index(genes)
    placed = {name: np.unique(_places(index, members)) for name, members in found.items()}
    kept = {n: p for n, p in placed.items() if min_genes <= len(p) <= max_genes}
    if not kept:
        most = max((len(p) for p in placed.values()), default=0)
        example = next((g for members in found.values() for g in members), "none")
        msg = (
            f"None of {len(found)} gene sets holds {min_genes} to {max_genes} of the {len(genes)} "
            f"genes (the fullest: {most}). Genes of the sets look like {example!r}, of the data "
            f"like {str(genes[0]) if len(genes) else 'none'!r}. Map the identifiers, or lower "
            "min_genes."
        )
        raise DataError(msg)
    names = list(kept)
    if max_sets is not None and len(names) > max_sets:
        largest = sorted(names, key=lambda n: (-len(kept[n]), n))[:max_sets]
        names = [n for n in names if n in set(largest)]
    offsets = np.concatenate([[0], np.cumsum([len(kept[n]) for n in names])])
    columns = np.concatenate([kept[n] for n in names])
    shape = (len(names), len(genes))
    members = sp.csr_matrix((np.ones(len(columns), np.float32), columns, offsets), shape=shape)
    return GeneSets(names=np.array(names), genes=np.asarray(genes, dtype=str), members=members)


def enrichment(listed: Sequence[str] | np.ndarray, sets: GeneSets) -> pd.DataFrame:
    """Return sets by how surprisingly many of the listed genes they hold, best first.

    Columns: set, overlap, size, expected, p, q, genes. Genes outside ``sets.genes`` are left out.
    """
    own = np.isin(sets.genes, np.asarray(listed, dtype=str))
    overlap = np.asarray(sets.members @ own.astype(np.float64)).astype(np.int64)
    n, universe = int(own.sum()), len(sets.genes)
    p = hypergeom.sf(overlap - 1, universe, sets.sizes, n)
    p = np.clip(p, 0.0, 1.0)
    shared = [
        ", ".join(sets.genes[c[own[c]]]) for c in (sets.columns(i) for i in range(len(sets.names)))
    ]
    table = pd.DataFrame(
        {
            "set": sets.names,
            "overlap": overlap,
            "size": sets.sizes,
            "expected": sets.sizes * n / max(universe, 1),
            "p": p,
            "q": false_discovery_control(p, method="bh"),
            "genes": shared,
        }
    )
    return table.sort_values(["p", "set"], kind="stable").reset_index(drop=True)


def online_gene_sets(library: str, *, organism: str = "human") -> dict[str, list[str]]:
    """Fetch a library such as ``"GO_Biological_Process_2023"`` from Enrichr, through gseapy."""
    try:
        from gseapy import get_library
    except ImportError as error:
        msg = (
            f"The library {library!r} is fetched through gseapy, which is not installed. "
            "Run: pip install 'cellweave-tasks[genesets]', or give a GMT file."
        )
        raise MissingDependencyError(msg) from error
    try:
        found: dict[str, list[str]] = get_library(
            name=library,
            organism=organism,
            max_size=sys.maxsize,  # it would drop large sets in silence
        )
    except (OSError, ValueError) as error:
        msg = (
            f"Enrichr gave no library {library!r} of {organism!r}: {error}. Look its name up at "
            "https://maayanlab.cloud/Enrichr/#libraries, check the connection, or give a GMT file."
        )
        raise UnreadableFileError(msg) from error
    return found


def _places(index: pd.Index, members: Sequence[str]) -> np.ndarray:
    at = index.get_indexer(pd.Index(members))
    return at[at >= 0]
