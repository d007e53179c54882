"""The loops over stored values: one pass for what they are, one more for how they were scaled."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["scan_scaling", "scan_values"]

# Ratios above this are not asked to be whole: float32 rounding alone makes them fractional.
_LARGEST_RATIO = 300.0


@numba.njit(cache=True, nogil=True)
def scan_values(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    row_sums: np.ndarray,
    row_counts: np.ndarray,
    column_counts: np.ndarray,
    counters: np.ndarray,
    limits: np.ndarray,
) -> None:
    """Count what the values of CSR rows are, in place.

    ``counters`` holds: NaN, infinite, negative, fractional, non-zero, then the position of the
    first of each of the first four (-1 for none). ``limits`` holds minimum and maximum of the
    finite values.
    """
    n_nan, n_inf, n_negative, n_fractional, n_nonzero = 0, 0, 0, 0, 0
    low, high = limits[0], limits[1]
    for row in range(len(indptr) - 1):
        total, count = 0.0, 0
        for k in range(indptr[row], indptr[row + 1]):
            value = data[k]
            if value == 0:
                continue
            count += 1
            column_counts[indices[k]] += 1
            if not np.isfinite(value):
                at = 0 if np.isnan(value) else 1
                n_nan += 1 - at
                n_inf += at
                if counters[5 + at] < 0:
                    counters[5 + at] = k
                continue
            total += value
            low = min(low, value)
            high = max(high, value)
            if value < 0:
                n_negative += 1
                if counters[7] < 0:
                    counters[7] = k
            if value != np.rint(value):
                n_fractional += 1
                if counters[8] < 0:
                    counters[8] = k
        row_sums[row] = total
        row_counts[row] = count
        n_nonzero += count
    counters[0] += n_nan
    counters[1] += n_inf
    counters[2] += n_negative
    counters[3] += n_fractional
    counters[4] += n_nonzero
    limits[0], limits[1] = low, high


@numba.njit(cache=True, nogil=True)
def _is_whole(ratio: float) -> bool:
    return abs(ratio - np.rint(ratio)) <= min(0.03, 1e-3 + 2e-4 * ratio)


@numba.njit(cache=True, nogil=True)
def scan_scaling(
    data: np.ndarray,
    indptr: np.ndarray,
    linear_sums: np.ndarray,
    outcome: np.ndarray,
) -> None:
    """Ask of each row whether it is counts times a factor, and the same of its ``expm1``.

    ``outcome`` holds: rows that can tell, rows whose values are whole multiples of the smallest,
    rows whose ``expm1`` are, and 1 once a value's ``2**v - 1`` is not whole. ``linear_sums``
    receives the row sums of ``expm1``.
    """
    for row in range(len(indptr) - 1):
        start, stop = indptr[row], indptr[row + 1]
        smallest = np.inf
        for k in range(start, stop):
            if 0 < data[k] < smallest:
                smallest = data[k]
        if not np.isfinite(smallest):
            continue
        base = np.exp(np.float64(smallest)) - 1
        total, tells, plain, logged = 0.0, False, True, True
        may_be_log2 = outcome[3] == 0
        for k in range(start, stop):
            value = np.float64(data[k])
            if not (value > 0 and value < np.inf):
                continue
            linear = np.exp(value) - 1  # three times as fast as expm1, and as good here
            total += linear
            ratio, log_ratio = value / smallest, linear / base
            tells = bool(tells or log_ratio > 1.5)
            plain = bool(plain and (ratio > _LARGEST_RATIO or _is_whole(ratio)))
            logged = bool(logged and (log_ratio > _LARGEST_RATIO or _is_whole(log_ratio)))
            # One such value settles it, so the power is taken only until it is found.
            if may_be_log2 and value < 13 and value != np.rint(value):
                may_be_log2 = _is_whole(2.0**value - 1)
        linear_sums[row] = total
        outcome[3] = not may_be_log2
        outcome[0] += tells
        outcome[1] += tells and plain
        outcome[2] += tells and logged
