"""Cell sentences: gene names by falling expression, as words (Cell2Sentence).

Rule (Levine et al. 2023): genes in descending order of expression, names in upper case, joined by
spaces, the first ``max_length`` of them. Ties are in a random order that belongs to the cell
(``ties="random"``) or in vocabulary order. Back: ``log10(1 + CP10K) ≈ a + b · log10(rank)``, with
``a, b`` by least squares over the cells of ``fit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.choosing import shuffle_rows
from cellweave.kernels.ragged import row_sums
from cellweave.tokenizing.ranks import RankTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens
    from cellweave.tokenizing.base import Body
    from cellweave.tokenizing.frame import Frame
    from cellweave.tokenizing.rows import Rows

__all__ = ["SentenceTokenizer"]


@dataclass(kw_only=True, eq=False)
class SentenceTokenizer(RankTokenizer):
    """Write each cell as its genes by falling expression.

    Parameters
    ----------
    ties
        ``"random"`` (reproducible, by cell), or ``"vocabulary"`` order.
    upper_case
        Write names in upper case in :meth:`to_text`.
    """

    component: ClassVar[str] = "rna.sentence"
    modality: ClassVar[str] = "rna"

    max_length: int | None = 1024
    scaling: Literal["median", "mean", "none"] = "none"
    ties: Literal["random", "vocabulary"] = "random"
    upper_case: bool = True

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.ties not in ("random", "vocabulary"):
            problems.append(f"ties={self.ties!r}; expected 'random' or 'vocabulary'")
        return problems

    def _learn(self, matrix: sp.csr_matrix, places: np.ndarray, adata: AnnData) -> None:
        super()._learn(matrix, places, adata)
        sums = self._learning.setdefault("line", np.zeros(5))
        totals = row_sums(np.asarray(matrix.indptr, dtype=np.int64), matrix.data)
        lengths = np.diff(matrix.indptr)
        row = np.repeat(np.arange(matrix.shape[0]), lengths)
        scale = (self.target_sum or 1.0) / np.where((totals > 0) & bool(self.target_sum), totals, 1)
        values = matrix.data * scale[row]
        values = values[np.lexsort((-values, row))]
        rank = 1 + np.arange(len(row)) - np.repeat(matrix.indptr[:-1], lengths)
        x, y = np.log10(rank[values > 0]), np.log10(1 + values[values > 0])
        sums += [len(x), x.sum(), y.sum(), (x * x).sum(), (x * y).sum()]

    def _facts(self) -> Mapping[str, Any]:
        n, x, y, xx, xy = self._learning["line"]
        spread = n * xx - x * x
        slope = (n * xy - x * y) / spread if spread > 0 else 0.0
        intercept = (y - slope * x) / n if n else 0.0
        return {**super()._facts(), "slope": float(slope), "intercept": float(intercept)}

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        if self.ties == "random":
            # The sort is stable: shuffled cells leave equal genes in the shuffled order.
            rows = rows.known_only()
            shuffle_rows(rows.indptr, rows.indices, rows.data, self._keys(rows, "ties"))
        return super()._encoded(rows, frame)

    def to_text(self, tokens: Tokens) -> list[str]:
        """Return one sentence a cell; framing tokens are left out."""
        names = np.array(self.vocabulary.names, dtype=object)
        if self.upper_case:
            names = np.array([name.upper() for name in names], dtype=object)
        word = np.zeros(len(names), dtype=bool)
        word[self.table.ids] = True
        words, offsets, keep = names[tokens.ids], tokens.offsets, word[tokens.ids]
        return [" ".join(words[a:b][keep[a:b]]) for a, b in pairwise(offsets)]

    def decode(self, tokens: Tokens) -> sp.csr_matrix:
        """Return the expression (normalised, not logged) that the order of genes foretells."""
        place = np.full(len(self.vocabulary), -1, dtype=np.int64)
        place[self.table.ids] = np.arange(len(self.table.ids))
        columns = place[tokens.ids]
        known = columns >= 0
        before = np.concatenate([[0], np.cumsum(known)])
        rank = before[1:] - np.repeat(before[tokens.offsets[:-1]], tokens.lengths)
        facts = self.table.facts
        logs = facts["intercept"] + facts["slope"] * np.log10(np.maximum(rank, 1))
        values = np.maximum(10**logs - 1, 0).astype(np.float32)
        cells = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
        shape = (tokens.n_cells, len(self.table.features))
        return sp.csr_matrix((values[known], (cells[known], columns[known])), shape=shape)
