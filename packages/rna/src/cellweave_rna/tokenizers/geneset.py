"""Gene sets as tokens (TOSICA's pathways): one token a set, its members' expression as value.

Rule (Chen et al., Nature Communications 2023): from a GMT file keep sets with more than four
measured genes, the ``max_sets`` largest, and one more token that sees every gene. Value of a set:
mean (or sum) of ``log1p`` normalised expression over its measured genes. The genes × sets mask that
TOSICA's first layer needs is :meth:`GeneSetTokenizer.membership`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.data.gmt import read_gmt
from cellweave.errors import ConfigError, DataError
from cellweave.tokenizing.base import Body, SparseTokenizer
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.rows import Rows
from cellweave.tokenizing.table import TokenTable, table_from_names

__all__ = ["GeneSetTokenizer", "read_gmt"]

_REMAINING = "<all_genes>"


@dataclass(kw_only=True, eq=False)
class GeneSetTokenizer(SparseTokenizer):
    """Summarise each cell by gene sets.

    Parameters
    ----------
    gmt
        Path of a GMT file (name, description, genes, tab-separated).
    min_genes
        Sets with fewer measured genes are left out.
    max_sets
        Keep the largest; ``None`` keeps all.
    add_all_genes
        Add one token that sees every gene.
    summary
        ``"mean"`` or ``"sum"`` over the measured genes of a set.
    keep_empty
        Keep tokens of sets of which a cell expresses nothing.
    target_sum, log1p
        Normalise cells to this sum (0: not), then take ``log1p``.
    """

    component: ClassVar[str] = "rna.geneset"
    modality: ClassVar[str] = "rna"

    gmt: str = ""
    min_genes: int = 5
    max_sets: int | None = 300
    add_all_genes: bool = True
    summary: Literal["mean", "sum"] = "mean"
    keep_empty: bool = True
    target_sum: float = 1e4
    log1p: bool = True

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not self.gmt:
            problems.append("gmt=''; expected the path of a GMT file")
        if self.summary not in ("mean", "sum"):
            problems.append(f"summary={self.summary!r}; expected 'mean' or 'sum'")
        return problems

    def _finish(self) -> TokenTable:
        features = np.asarray(self._learning["features"], dtype=str)
        sets = self._chosen_sets(features)
        shell = table_from_names(list(sets), context=self._learnt_context())
        return TokenTable(
            vocabulary=shell.vocabulary,
            features=features,
            ids=np.arange(len(features), dtype=np.int32),
            context=shell.context,
            facts={"sets": [[n, m] for n, m in sets.items()], "first_set": int(shell.ids[0])},
        )

    def _chosen_sets(self, features: np.ndarray) -> dict[str, list[int]]:
        place = {str(name): i for i, name in enumerate(features)}
        sets = {}
        for name, genes in read_gmt(self.gmt).items():
            members = sorted({place[g] for g in genes if g in place})
            if len(members) >= self.min_genes:
                sets[name] = members
        if not sets:
            msg = (
                f"No set of {self.gmt!r} holds {self.min_genes} of the {len(features)} measured "
                f"genes (such as {str(features[0])!r}). Use names of the same kind, or lower "
                "min_genes."
            )
            raise DataError(msg)
        largest = sorted(sets, key=lambda name: (-len(sets[name]), name))[: self.max_sets]
        chosen = {name: sets[name] for name in largest}
        if self.add_all_genes:
            chosen[_REMAINING] = list(range(len(features)))
        return chosen

    def membership(self) -> sp.csr_matrix:
        """Return the genes × sets mask of zeros and ones, in the order of table and ids."""
        sets = self.table.facts["sets"]
        genes = np.concatenate([np.asarray(m, dtype=int) for _, m in sets])
        owner = np.repeat(np.arange(len(sets)), [len(m) for _, m in sets])
        shape = (len(self.table.features), len(sets))
        return sp.csr_matrix((np.ones(len(genes), np.float32), (genes, owner)), shape=shape)

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        if self.overflow == "sample":
            msg = "overflow='sample' is not defined for gene sets. Use 'truncate'."
            raise ConfigError(msg)
        mask = self.membership()
        sizes = np.asarray(mask.sum(axis=0)).ravel()
        by_set = sp.csr_matrix(self._values(rows) @ mask)
        by_set.sort_indices()
        n_sets = mask.shape[1]
        counts = np.full(rows.n, n_sets) if self.keep_empty else np.diff(by_set.indptr)
        body = self._laid_out(counts.astype(np.int64), frame)
        own = np.arange(body.lengths.sum()) - np.repeat(
            np.cumsum(body.lengths) - body.lengths, body.lengths
        )
        at = np.repeat(body.starts, body.lengths) + own
        values = np.zeros(len(body.ids), dtype=np.float32)
        if self.keep_empty:
            owner = own
            filled = by_set.toarray()[:, : body.lengths.max(initial=0)].ravel()
        else:
            source = np.repeat(by_set.indptr[:-1], body.lengths) + own
            owner, filled = by_set.indices[source], by_set.data[source]
        body.ids[at] = self.table.facts["first_set"] + owner
        values[at] = filled / sizes[owner] if self.summary == "mean" else filled
        body.values = values
        return body

    def _values(self, rows: Rows) -> sp.csr_matrix:
        """Return normalised expression with columns in the order of the table."""
        data, known = rows.data, rows.places[rows.indices] >= 0
        if self.target_sum > 0:
            totals = np.where(rows.totals > 0, rows.totals, 1)
            lengths = np.diff(rows.indptr)
            data = data * np.repeat((self.target_sum / totals).astype(np.float32), lengths)
        data = np.log1p(data) if self.log1p else data
        indptr = np.concatenate([[0], np.cumsum(known)])[rows.indptr]
        columns = rows.places[rows.indices[known]]
        shape = (rows.n, len(self.table.features))
        return sp.csr_matrix((data[known], columns, indptr), shape=shape)
