"""One token a feature, in vocabulary order: what bins, values and cells as tokens share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.laying import lay_rows
from cellweave.kernels.ragged import count_kept, sum_kept
from cellweave.kernels.scaling import write_scaled
from cellweave.tokenizing.base import NO_KEYS, Body, SparseTokenizer
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.rows import Rows, totals_column
from cellweave.tokenizing.table import TokenTable, table_from_ids

__all__ = ["FeatureTokenizer", "all_kept", "counted", "decoded"]


@dataclass(kw_only=True, eq=False)
class FeatureTokenizer(SparseTokenizer):
    """Give each feature of a cell one token, in vocabulary order; subclasses give its value.

    Parameters
    ----------
    target_sum
        What each cell is normalised to first; 0: not.
    total
        What a cell's total is: ``"all"`` columns, those of the ``"vocabulary"``, or the name of
        an ``obs`` column.
    start_value
        Value at framing tokens.
    """

    component: ClassVar[str] = "features"

    target_sum: float = 0.0
    total: str = "all"
    start_value: float = 0.0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.target_sum < 0:
            problems.append(f"target_sum={self.target_sum!r}; expected 0 or more")
        return problems

    @classmethod
    def from_tables(
        cls,
        token_ids: Mapping[str, int],
        *,
        special: Mapping[str, str],
        not_features: Sequence[str] = (),
        context_ids: Mapping[str, Mapping[str, int]] | None = None,
        **parameters: Any,
    ) -> Self:
        """Build on a published vocabulary (name → id); names ascend in their ids.

        Parameters
        ----------
        token_ids
            Feature (and special) name to id.
        special
            Role to token name.
        not_features
            Further names that are no feature.
        context_ids
            Column of ``obs`` to (value → id).
        parameters
            Arguments of the tokenizer.
        """
        table = table_from_ids(
            token_ids, special=special, not_features=not_features, context=context_ids
        )
        return cls.from_table(table, **parameters)

    @property
    def close(self) -> bool:
        """Tell whether rows must be written one behind the other, without room for a frame."""
        return False

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        tokens = rows.by_column(self.table.ids, missing=-1)
        counts = counted(rows, tokens)
        body = self._laid_out(counts, frame)
        body.values = self.memory.empty(len(body.ids), np.float32)
        if not self.close and np.array_equal(counts, body.lengths):
            self._write(rows, tokens, body.starts, body.ids, body.values)
            frame.fill_values(body.offsets, body.values, self.start_value)
            return body
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ids = self.memory.empty(starts[-1], np.int32)
        values = self.memory.empty(starts[-1], np.float32)
        self._write(rows, tokens, starts[:-1], ids, values)
        if frame.width == 0 and len(body.ids) == len(ids):
            body.ids, body.values = ids, values
            return body
        keys = self._keys(rows, "overflow") if self.overflow == "sample" else NO_KEYS
        lay_rows(ids, values, counts, body.lengths, keys, body.starts, body.ids, body.values)
        frame.fill_values(body.offsets, body.values, self.start_value)
        return body

    def _write(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Write id and value of every known feature above zero; what a subclass must say."""
        raise NotImplementedError

    def _write_scaled(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
        *,
        log1p: bool,
    ) -> None:
        """Write each value scaled to ``target_sum``, and logged if asked."""
        scales = np.ones(rows.n, dtype=np.float32)
        if self.target_sum > 0:
            scales = (self.target_sum / self._totals(rows, tokens)).astype(np.float32)
        write_scaled(
            rows.indptr, rows.indices, rows.data, tokens, scales, log1p, starts, ids, values,
            all_kept=all_kept(rows, tokens),
        )  # fmt: skip

    def _totals(self, rows: Rows, tokens: np.ndarray) -> np.ndarray:
        if self.total == "vocabulary" and all_kept(rows, tokens):
            totals = rows.totals
        elif self.total == "vocabulary":
            totals = sum_kept(rows.indptr, rows.indices, rows.data, tokens)
        elif self.total == "all":
            totals = rows.totals
        else:
            totals = totals_column(rows.obs, self.total, component=self.component)
        return np.where(totals > 0, totals, 1.0)


def counted(rows: Rows, tokens: np.ndarray) -> np.ndarray:
    """Count the kept entries of each cell; nothing is looked up where all are kept."""
    if all_kept(rows, tokens):
        return np.diff(rows.indptr)
    counts: np.ndarray = count_kept(rows.indptr, rows.indices, rows.data, tokens)
    return counts


def all_kept(rows: Rows, tokens: np.ndarray) -> bool:
    """Tell whether no zero is stored and every column has an id."""
    return rows.zero_free and len(tokens) > 0 and bool(tokens.min() >= 0)


def decoded(table: TokenTable, tokens: Any) -> sp.csr_matrix:
    """Put each token's value back at its feature."""
    place = np.full(len(table.vocabulary), -1, dtype=np.int64)
    place[table.ids] = np.arange(len(table.ids))
    columns = place[tokens.ids]
    cells = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
    known = columns >= 0
    shape = (tokens.n_cells, len(table.features))
    return sp.csr_matrix((tokens.values[known], (cells[known], columns[known])), shape=shape)
