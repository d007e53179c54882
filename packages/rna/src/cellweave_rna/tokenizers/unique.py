"""Highly unique genes: what a cell expresses and few others do (scRobust).

Rule (Park et al. 2024): a gene's uniqueness is how seldom it is expressed among the cells of
``fit``; a cell's tokens are its expressed genes, the most unique first, ``max_length`` of them, or
a random subset of its ``pool`` most unique genes (the two views that scRobust contrasts are
``view=0`` and ``view=1``). Value: ``log1p`` of the normalised count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.choosing import thin_rows
from cellweave.kernels.ragged import close_gaps
from cellweave.kernels.ranking import rank_rows
from cellweave.tokenizing.base import NO_KEYS, Body, SparseTokenizer
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.rows import Rows

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["UniqueTokenizer"]


@dataclass(kw_only=True, eq=False)
class UniqueTokenizer(SparseTokenizer):
    """Order each cell's expressed genes from the seldom to the common.

    Parameters
    ----------
    pool
        With ``overflow="sample"``: draw from this many of a cell's most unique genes; ``None``
        draws from all it expresses.
    view
        Number of the random subset.
    target_sum
        What cells are normalised to before ``log1p``; 0: not.
    """

    component: ClassVar[str] = "rna.unique"
    modality: ClassVar[str] = "rna"

    max_length: int | None = 512
    overflow: Literal["truncate", "sample"] = "truncate"
    pool: int | None = None
    view: int = 0
    target_sum: float = 1e4

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.pool is not None and self.pool < 1:
            problems.append(f"pool={self.pool!r}; expected at least 1, or None")
        return problems

    def _learn(self, matrix: sp.csr_matrix, places: np.ndarray, adata: AnnData) -> None:
        size = len(self._learning["features"])
        seen = self._learning.get("seen", np.zeros(0))
        present = places[matrix.indices[matrix.data != 0]]
        fresh = np.bincount(present, minlength=size).astype(float)
        self._learning["seen"] = np.pad(seen, (0, size - len(seen))) + fresh

    def _numbers(self) -> Mapping[str, np.ndarray]:
        seen = self._learning["seen"]
        size = len(self._learning["features"])
        share = np.pad(seen, (0, size - len(seen))) / max(self._learning["n_cells"], 1)
        return {"expressed_in": share}

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        share = self.table.numbers["expressed_in"]
        # A gene no cell of the fit expressed is rarer than any that one did.
        divisor = np.where(share > 0, share, 0.5 / max(self.table.facts["n_cells"], 1))
        tokens = rows.by_column(np.arange(len(share), dtype=np.int32), missing=-1)[None]
        divisors = rows.by_column(divisor, missing=1.0)[None]
        groups = np.zeros(rows.n, dtype=np.int64)
        limits = np.diff(rows.indptr)
        if self.pool is not None:
            limits = np.minimum(limits, self.pool)
        if self.overflow == "truncate" and (room := self._room(frame)) is not None:
            limits = np.minimum(limits, room)
        starts = np.concatenate([[0], np.cumsum(limits)]).astype(np.int64)
        ordered = np.empty(starts[-1], dtype=np.int32)
        ones = np.ones(len(rows.data), dtype=np.float32)
        ones[rows.data == 0] = 0
        lengths = rank_rows(
            rows.indptr, rows.indices, ones, tokens, divisors, groups, np.ones(rows.n), 0.0,
            False, starts[:-1], limits, NO_KEYS, ordered, np.empty(0, dtype=np.float32),
        )  # fmt: skip
        ends = np.concatenate([[0], np.cumsum(lengths)])
        close_gaps(ordered, starts, ends, lengths)
        return self._placed(rows, frame, ordered[: ends[-1]], lengths)

    def _placed(self, rows: Rows, frame: Frame, ordered: np.ndarray, counts: np.ndarray) -> Body:
        body = self._laid_out(counts, frame)
        if self.overflow == "sample":
            kept = thin_rows(counts, body.lengths, self._keys(rows, f"view{self.view}"))
            ordered = ordered[kept]
        own = np.arange(len(ordered)) - np.repeat(
            np.cumsum(body.lengths) - body.lengths, body.lengths
        )
        at = np.repeat(body.starts, body.lengths) + own
        body.ids[at] = self.table.ids[ordered]
        body.values = np.zeros(len(body.ids), dtype=np.float32)
        cells = np.repeat(np.arange(rows.n), body.lengths)
        body.values[at] = self._values(rows, cells, ordered)
        return body

    def _values(self, rows: Rows, cells: np.ndarray, places: np.ndarray) -> np.ndarray:
        column_of = np.full(len(self.table.ids), 0, dtype=np.int64)
        known = np.flatnonzero(rows.places >= 0)
        column_of[rows.places[known]] = known
        matrix = sp.csr_matrix(
            (rows.data, rows.indices.view(np.int32), rows.indptr),
            shape=(rows.n, len(rows.places)),
        )
        values = np.asarray(matrix[cells, column_of[places]]).ravel()
        if self.target_sum > 0:
            totals = np.where(rows.totals > 0, rows.totals, 1)
            values = values * (self.target_sum / totals)[cells]
        return np.log1p(values).astype(np.float32)
