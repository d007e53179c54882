"""Say what the values of a matrix are: over all of them, in blocks, with no random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.validation._scan import scan_scaling, scan_values

__all__ = ["ValueKind", "ValueSummary", "classify_values", "summarise_values"]

_BLOCK_VALUES = 1 << 22
_LARGEST_LOG = 20.0
_CONSTANT = 2e-3


class ValueKind(StrEnum):
    """What the values of a matrix are."""

    COUNTS = "counts"
    NEARLY_COUNTS = "nearly counts"
    NEGATIVE = "counts with negative values"
    LOG1P = "log-normalised"
    NORMALISED = "normalised to a total"
    PROPORTIONS = "proportions"
    SCALED = "scaled"
    CONTINUOUS = "continuous"
    EMPTY = "empty"
    NOT_FINITE = "not finite"
    NOT_NUMERIC = "not numeric"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSummary:
    """Hold what a pass over all stored values found.

    Parameters
    ----------
    kind
        What the finite values are.
    n_nonzero, n_nan, n_inf, n_negative, n_fractional
        How many of each.
    minimum, maximum
        Of the finite non-zero values; 0 where there are none.
    first_nan, first_inf, first_negative, first_fractional
        Row and column of the first of each, where there is one.
    row_sums, row_counts, column_counts
        Sum of finite values and number of non-zero values a row, and the latter a column.
    """

    kind: ValueKind
    n_nonzero: int = 0
    n_nan: int = 0
    n_inf: int = 0
    n_negative: int = 0
    n_fractional: int = 0
    minimum: float = 0.0
    maximum: float = 0.0
    first_nan: tuple[int, int] | None = None
    first_inf: tuple[int, int] | None = None
    first_negative: tuple[int, int] | None = None
    first_fractional: tuple[int, int] | None = None
    row_sums: np.ndarray
    row_counts: np.ndarray
    column_counts: np.ndarray

    @property
    def n_not_finite(self) -> int:
        """Count NaN and infinite values."""
        return self.n_nan + self.n_inf

    @property
    def density(self) -> float:
        """Give the share of values that are not zero."""
        return self.n_nonzero / max(len(self.row_sums) * len(self.column_counts), 1)


def classify_values(matrix: Any) -> ValueKind:
    """Say what the values of ``matrix`` are, from all of them.

    Parameters
    ----------
    matrix
        ``(n_cells, n_features)``: dense, CSR, CSC, or an on-disk matrix of AnnData.

    Returns
    -------
    :class:`ValueKind`; ``NOT_FINITE`` as soon as one value is NaN or infinite.
    """
    summary = summarise_values(matrix)
    return ValueKind.NOT_FINITE if summary.n_not_finite else summary.kind


def summarise_values(matrix: Any) -> ValueSummary:
    """Go once over all stored values and say what they are and where the odd ones stand.

    A second pass follows only where values are not whole numbers, to tell logarithms and
    normalised totals from measured intensities.
    """
    if len(getattr(matrix, "shape", ())) != 2:
        msg = f"Expected a matrix with two axes, got {type(matrix).__name__}. Give X or a layer."
        raise DataError(msg)
    if np.dtype(matrix.dtype).kind not in "biuf":
        nothing = np.zeros(0)
        return ValueSummary(
            kind=ValueKind.NOT_NUMERIC, row_sums=nothing, row_counts=nothing, column_counts=nothing
        )
    scan = _Scan(*matrix.shape)
    for start, block in _blocks(matrix):
        scan.add(start, block)
    kind = _plain_kind(scan)
    if kind is None:
        kind = _continuous_kind(scan, _scaling(matrix))
    return scan.summary(kind)


class _Scan:
    """Accumulate the counters of :func:`scan_values` over blocks of rows."""

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self.row_sums = np.zeros(n_rows)
        self.row_counts = np.zeros(n_rows, dtype=np.int64)
        self.column_counts = np.zeros(n_columns, dtype=np.int64)
        self.counters = np.zeros(9, dtype=np.int64)
        self.limits = np.array([np.inf, -np.inf])
        self.firsts: list[tuple[int, int] | None] = [None] * 4

    def add(self, start: int, block: sp.csr_matrix) -> None:
        stop = start + block.shape[0]
        self.counters[5:] = -1
        scan_values(
            block.data,
            block.indices,
            block.indptr,
            self.row_sums[start:stop],
            self.row_counts[start:stop],
            self.column_counts,
            self.counters,
            self.limits,
        )
        for i, position in enumerate(self.counters[5:]):
            if self.firsts[i] is None and position >= 0:
                row = int(np.searchsorted(block.indptr, position, side="right")) - 1
                self.firsts[i] = (start + row, int(block.indices[position]))

    def summary(self, kind: ValueKind) -> ValueSummary:
        n_nan, n_inf, n_negative, n_fractional, n_nonzero = self.counters[:5].tolist()
        has_values = n_nonzero > n_nan + n_inf
        return ValueSummary(
            kind=kind,
            n_nonzero=n_nonzero,
            n_nan=n_nan,
            n_inf=n_inf,
            n_negative=n_negative,
            n_fractional=n_fractional,
            minimum=float(self.limits[0]) if has_values else 0.0,
            maximum=float(self.limits[1]) if has_values else 0.0,
            first_nan=self.firsts[0],
            first_inf=self.firsts[1],
            first_negative=self.firsts[2],
            first_fractional=self.firsts[3],
            row_sums=self.row_sums,
            row_counts=self.row_counts,
            column_counts=self.column_counts,
        )


@dataclass(frozen=True, slots=True)
class _Scaling:
    tells: int
    multiples: int
    log_multiples: int
    not_log2: bool
    linear_sums: np.ndarray


def _plain_kind(scan: _Scan) -> ValueKind | None:
    """Say the kind where one pass is enough; ``None`` asks for the second."""
    n_nan, n_inf, n_negative, n_fractional, n_nonzero = scan.counters[:5].tolist()
    n_finite = n_nonzero - n_nan - n_inf
    if n_finite == 0:
        return ValueKind.EMPTY
    if n_negative:
        whole = n_fractional < 0.5 * n_finite
        return ValueKind.NEGATIVE if whole or n_negative < 0.02 * n_finite else ValueKind.SCALED
    if n_fractional == 0:
        return ValueKind.COUNTS
    if n_fractional < 0.5 * n_finite and scan.limits[1] > _LARGEST_LOG:
        return ValueKind.NEARLY_COUNTS
    return None


def _scaling(matrix: Any) -> _Scaling:
    linear_sums = np.zeros(matrix.shape[0])
    outcome = np.zeros(4, dtype=np.int64)
    for start, block in _blocks(matrix):
        stop = start + block.shape[0]
        scan_scaling(block.data, block.indptr, linear_sums[start:stop], outcome)
    tells, multiples, log_multiples, not_log2 = outcome.tolist()
    return _Scaling(tells, multiples, log_multiples, bool(not_log2), linear_sums)


def _continuous_kind(scan: _Scan, scaling: _Scaling) -> ValueKind:
    n_finite = int(scan.counters[4] - scan.counters[0] - scan.counters[1])
    highest = scan.limits[1]
    linear = ValueKind.PROPORTIONS if highest <= 1 else ValueKind.NORMALISED
    if not scaling.not_log2 and highest < 13:
        return ValueKind.LOG1P
    if scan.counters[3] < 0.5 * n_finite:
        return ValueKind.NEARLY_COUNTS
    if _is_constant(scan.row_sums):
        return linear
    if highest <= _LARGEST_LOG and _is_constant(scaling.linear_sums):
        return ValueKind.LOG1P
    most = 0.5 * max(scaling.tells, 1)
    if scaling.multiples > most:
        return linear
    if highest <= _LARGEST_LOG and (scaling.log_multiples > most or highest > 1):
        return ValueKind.LOG1P
    return ValueKind.PROPORTIONS if highest <= 1 else ValueKind.CONTINUOUS


def _is_constant(sums: np.ndarray) -> bool:
    """Tell whether all rows that are not empty have one total."""
    filled = sums[sums > 0]
    return len(filled) > 1 and bool(np.ptp(filled) <= _CONSTANT * filled.mean())


def _blocks(matrix: Any) -> Iterator[tuple[int, Any]]:
    """Yield CSR blocks of rows in float32 or float64, sharing memory where possible."""
    if isinstance(matrix, sp.csc_matrix | sp.csc_array | sp.coo_matrix | sp.coo_array):
        matrix = matrix.tocsr()
    if isinstance(matrix, sp.csr_matrix | sp.csr_array) and matrix.dtype in ("f4", "f8"):
        yield 0, matrix
        return
    n_rows, n_columns = matrix.shape
    step = max(_BLOCK_VALUES // max(n_columns, 1), 1)
    for start in range(0, n_rows, step):
        yield start, _as_csr(matrix[start : start + step])


def _as_csr(block: Any) -> Any:
    """Give a block as CSR; a dense one keeps its zeros, which spares looking for them."""
    if hasattr(block, "tocsr"):
        block = block.tocsr()
        return block if block.dtype in ("f4", "f8") else block.astype(np.float64)
    dense = np.asarray(block)
    if dense.dtype not in ("f4", "f8"):
        dense = dense.astype(np.float64)
    n_rows, n_columns = dense.shape
    columns = np.tile(np.arange(n_columns, dtype=np.int32), n_rows)
    indptr = np.arange(n_rows + 1, dtype=np.int64) * n_columns
    out = sp.csr_matrix(dense.shape, dtype=dense.dtype)
    out.data, out.indices, out.indptr = np.ascontiguousarray(dense).ravel(), columns, indptr
    return out
