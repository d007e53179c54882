"""Every gene of a fixed list, in its order, zeros included (scBERT, scGPT with zero genes).

Rule: cell ``i`` is the sequence of all genes of the list; the value of an expressed gene is its
bin, its ``log1p`` or its count, that of any other gene 0. Position ``p`` is the gene's place in the
list. The sequences are as long as the list, so this is for models that need them so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.laying import spread_rows
from cellweave.tokenizing.base import Body
from cellweave.tokenizing.features import counted, decoded
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.memory import SharedRows
from cellweave.tokenizing.rows import Rows
from cellweave_rna.tokenizers.bins import BinTokenizer

__all__ = ["FixedTokenizer"]


@dataclass(kw_only=True, eq=False)
class FixedTokenizer(BinTokenizer):
    """Give every gene of the vocabulary a token, expressed or not.

    Parameters
    ----------
    rule
        ``"log2"`` (scBERT), ``"quantile"``, ``"uniform"``, or ``"value"``: the normalised value.
    n_bins
        As for ``rna.bins``; scBERT's cap is 5.
    """

    component: ClassVar[str] = "rna.fixed"
    # A model whose ids are the places in the list needs no positions beside them.
    positioned: ClassVar[bool] = True

    rule: Literal["quantile", "log2", "uniform", "value"] = "log2"  # type: ignore[assignment]
    n_bins: int = 5
    target_sum: float = 1e4
    total: str = "vocabulary"
    ids_of_all: SharedRows = field(default_factory=SharedRows, init=False, repr=False)
    positions_of_all: SharedRows = field(default_factory=SharedRows, init=False, repr=False)

    def _problems(self) -> list[str]:
        problems = [p for p in super()._problems() if not p.startswith("rule='value'")]
        if self.max_length is not None:
            problems.append(f"max_length={self.max_length!r}; a fixed list is never cut: use None")
        return problems

    def _write(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
    ) -> None:
        if self.rule != "value":
            super()._write(rows, tokens, starts, ids, values)
            return
        self._write_scaled(rows, tokens, starts, ids, values, log1p=self.log1p)

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        table, n = self.table, rows.n
        places = rows.by_column(np.arange(len(table.ids), dtype=np.int64), missing=-1)
        counts = counted(rows, places)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        found = self.memory.empty(starts[-1], np.int32)
        values = self.memory.empty(starts[-1], np.float32)
        self._write(rows, places.astype(np.int32), starts[:-1], found, values)
        body = self._list_of_each(n, frame)
        body.values = self.memory.empty(len(body.ids), np.float32)
        spread_rows(counts, found, values, body.starts, len(table.ids), body.values)
        frame.fill_values(body.offsets, body.values, self.start_value)
        return body

    def _list_of_each(self, n: int, frame: Frame) -> Body:
        """Lay out the whole list for each cell: ids, and positions, are the same in every cell."""
        ids, before, after = self.table.ids, frame.before.shape[1], frame.after.shape[1]
        offsets = np.arange(n + 1, dtype=np.int64) * (len(ids) + frame.width)
        body = Body(
            offsets=offsets, starts=frame.body_starts(offsets), ids=ids,
            lengths=np.full(n, len(ids), dtype=np.int64),
        )  # fmt: skip
        if n == 0 or self.context:
            body.ids = np.tile(np.pad(ids, (before, after)), n)
            frame.fill(offsets, body.ids)
        else:
            row = np.concatenate([frame.before[0], ids, frame.after[0]]).astype(np.int32)
            body.ids = self.ids_of_all.repeated(row, n)
        if self.positioned:
            row = np.pad(np.arange(len(ids), dtype=np.int32), (before, after))
            body.positions = self.positions_of_all.repeated(row, n)
        return body

    def decode(self, tokens: Any) -> sp.csr_matrix:
        """Return the values as CSR without the zeros, columns in the order of the list."""
        matrix = decoded(self.table, tokens)
        matrix.eliminate_zeros()
        return matrix
