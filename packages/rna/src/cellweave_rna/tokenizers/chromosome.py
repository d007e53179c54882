"""Genes drawn by expression and laid out along the chromosomes (UCE).

Rule (Rosen et al. 2023): draw ``n_draws`` genes with replacement, p ∝ log1p(count); group them by
chromosome, chromosomes in a random order, genes by start within; each chromosome is opened by its
own token and closed by ``<end>``; ``<cls>`` first. Draws and order belong to the cell (seed, name).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.kernels.choosing import sample_genome
from cellweave.tokenizing.base import Body, SparseTokenizer
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.patches import genomic_order
from cellweave.tokenizing.rows import Rows
from cellweave.tokenizing.table import TokenTable, table_from_names

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ChromosomeTokenizer"]


@dataclass(kw_only=True, eq=False)
class ChromosomeTokenizer(SparseTokenizer):
    """Draw genes by expression, and write them chromosome by chromosome.

    Parameters
    ----------
    n_draws
        Genes drawn for each cell, with replacement.
    chromosome_from, start_from
        Columns of ``var`` with each gene's chromosome and start.
    """

    component: ClassVar[str] = "rna.chromosome"
    modality: ClassVar[str] = "rna"

    start: bool = True
    max_length: int | None = 1536
    n_draws: int = 1024
    chromosome_from: str = "chrom"
    start_from: str = "chromStart"

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.n_draws < 1:
            problems.append(f"n_draws={self.n_draws!r}; expected at least 1")
        if self.overflow == "sample":
            problems.append("overflow='sample' would tear chromosomes; lower n_draws instead")
        return problems

    def _learn(self, matrix: sp.csr_matrix, places: np.ndarray, adata: AnnData) -> None:
        missing = [c for c in (self.chromosome_from, self.start_from) if c not in adata.var]
        if missing:
            msg = (
                f"{self.component!r} needs var[{missing[0]!r}]. Add coordinates from a GTF, or "
                "name the columns with chromosome_from and start_from."
            )
            raise DataError(msg)
        known = self._learning.setdefault("coordinates", {})
        names = self._learning["features"][places]
        chromosomes = adata.var[self.chromosome_from].astype(str)
        starts = adata.var[self.start_from].to_numpy(dtype=float)
        known.update((n, (c, s)) for n, c, s in zip(names, chromosomes, starts) if np.isfinite(s))

    def _finish(self) -> TokenTable:
        known = self._learning["coordinates"]
        genes = np.array(sorted(known), dtype=str)
        order, codes = genomic_order([known[g][0] for g in genes], [known[g][1] for g in genes])
        genes, codes = genes[order], codes[order]
        _, first = np.unique(codes, return_index=True)
        chromosomes = [known[genes[i]][0] for i in first]
        return table_from_names(
            list(genes),
            context=self._learnt_context(),
            extra=("<end>", *(f"<chromosome:{c}>" for c in chromosomes)),
            numbers={"chromosome": codes},
            facts={**self._facts(), "chromosomes": chromosomes},
        )

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        table = self.table
        special = table.vocabulary.special
        chromosomes = table.facts["chromosomes"]
        openers = np.array([special[f"chromosome:{c}"] for c in chromosomes], dtype=np.int32)
        # Room for every chromosome; what chance leaves out is closed later.
        most = np.where(np.diff(rows.indptr) > 0, self.n_draws + 2 * len(chromosomes), 0)
        body = self._laid_out(most, frame)
        lengths = sample_genome(
            rows.indptr, rows.indices, rows.data, rows.by_column(table.ids, missing=-1),
            rows.by_column(table.numbers["chromosome"], missing=-1), len(chromosomes),
            self.n_draws, self._keys(rows, "order"), self._keys(rows, "draws"),
            openers, special["end"], body.starts, body.lengths, body.ids,
        )  # fmt: skip
        return self._tightened(body, lengths, frame)
