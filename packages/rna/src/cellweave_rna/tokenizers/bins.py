"""Binned expression: the gene is the id, its bin within the cell is the value.

Rules: scGPT's quantile bins (Cui et al., Nature Methods 2024): edges are the quantiles
``linspace(0, 1, n_bins − 1)`` of a cell's non-zero values; scBERT's logarithmic bins
``min(⌊log2(1 + CP10K)⌋, cap)``; bins of equal width up to the cell's largest value (scMulan).
Quantile bins are made of all known genes before a long cell is cut, as upstream does. Where
several edges equal a value scGPT draws a bin at random; here the draw belongs to the cell and gene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from cellweave.kernels.binning import log2_bins, quantile_bins, uniform_bins
from cellweave.kernels.choosing import thin_rows
from cellweave.kernels.ragged import count_kept, sum_kept
from cellweave.tokenizing.base import Body, SparseTokenizer
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.rows import Rows, totals_column
from cellweave.tokenizing.table import table_from_ids

__all__ = ["BinTokenizer", "GeneTokenizer"]

_TIES = {"random": 0, "lowest": 1, "highest": 2}


@dataclass(kw_only=True, eq=False)
class GeneTokenizer(SparseTokenizer):
    """Give each expressed gene one token, genes in vocabulary order; subclasses give its value.

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

    modality: ClassVar[str] = "rna"

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
        """Build on a published vocabulary (name → id); see :mod:`cellweave_rna.tables`.

        Parameters
        ----------
        token_ids
            Gene (and special) name to id.
        special
            Role to token name.
        not_features
            Further names that are no gene.
        context_ids
            Column of ``obs`` to (value → id).
        parameters
            Arguments of the tokenizer.
        """
        table = table_from_ids(
            token_ids, special=special, not_features=not_features, context=context_ids
        )
        return cls.from_table(table, **parameters)

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        tokens = rows.by_column(self.table.ids, missing=-1)
        counts = count_kept(rows.indptr, rows.indices, rows.data, tokens)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ids = np.empty(starts[-1], dtype=np.int32)
        values = np.empty(starts[-1], dtype=np.float32)
        self._write(rows, tokens, starts[:-1], ids, values)
        body = self._laid_out(counts, frame)
        if frame.width == 0 and len(body.ids) == len(ids):
            body.ids, body.values = ids, values
            return body
        kept = self._kept(rows, counts, body.lengths)
        own = np.arange(len(kept)) - np.repeat(np.cumsum(body.lengths) - body.lengths, body.lengths)
        at = np.repeat(body.starts, body.lengths) + own
        body.values = np.empty(len(body.ids), dtype=np.float32)
        body.ids[at], body.values[at] = ids[kept], values[kept]
        frame.fill_values(body.offsets, body.values, self.start_value)
        return body

    def _kept(self, rows: Rows, counts: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """Say which of all tokens stay: the first of each cell, or a sample of them."""
        if self.overflow == "sample":
            return thin_rows(counts, limits, self._keys(rows, "overflow"))
        own = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.flatnonzero(own < np.repeat(limits, counts))

    def _write(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Write id and value of every known, expressed gene; what a subclass must say."""
        raise NotImplementedError

    def _totals(self, rows: Rows, tokens: np.ndarray) -> np.ndarray:
        if self.total == "vocabulary":
            totals = sum_kept(rows.indptr, rows.indices, rows.data, tokens)
        elif self.total == "all":
            totals = rows.totals
        else:
            totals = totals_column(rows.obs, self.total, component=self.component)
        return np.where(totals > 0, totals, 1.0)


@dataclass(kw_only=True, eq=False)
class BinTokenizer(GeneTokenizer):
    """Bin each cell's expression.

    Parameters
    ----------
    rule
        ``"quantile"`` (scGPT), ``"log2"`` (scBERT) or ``"uniform"`` (scMulan).
    n_bins
        Number of bins, zero's among them for ``"quantile"`` (values 1 … ``n_bins − 1``); number
        of non-zero bins for ``"uniform"``; the largest bin for ``"log2"``.
    log1p
        Take ``log1p`` after normalising (matters for uniform bins; quantile bins hardly move).
    ties
        Bin of a value that several edges equal: ``"random"`` among theirs, ``"lowest"`` or
        ``"highest"``.
    """

    component: ClassVar[str] = "rna.bins"

    rule: Literal["quantile", "log2", "uniform"] = "quantile"
    n_bins: int = 51
    log1p: bool = False
    ties: Literal["random", "lowest", "highest"] = "random"

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.rule not in ("quantile", "log2", "uniform"):
            problems.append(f"rule={self.rule!r}; expected 'quantile', 'log2' or 'uniform'")
        if self.n_bins < 3:
            problems.append(f"n_bins={self.n_bins!r}; expected at least 3")
        if self.ties not in _TIES:
            problems.append(f"ties={self.ties!r}; expected one of {', '.join(_TIES)}")
        return problems

    def _write(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
    ) -> None:
        cells = (rows.indptr, rows.indices, rows.data, tokens)
        totals, target = self._totals(rows, tokens), float(self.target_sum)
        if self.rule == "log2":
            log2_bins(*cells, totals, target, self.n_bins, starts, ids, values)
        elif self.rule == "uniform":
            uniform_bins(*cells, totals, target, self.log1p, self.n_bins, starts, ids, values)
        else:
            keys = self._keys(rows, "ties")
            quantile_bins(
                *cells, totals, target, self.log1p, self.n_bins, _TIES[self.ties], keys,
                starts, ids, values,
            )  # fmt: skip
