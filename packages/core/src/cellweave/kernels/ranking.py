"""Order the features of each cell by ``value / factor``, largest first.

Keys are approximate: ``count · (1 / factor)`` in float32, whose bit patterns of positive numbers
ascend as the numbers do. The range that a row spans is cut into two digits of nine bits, and two
counting passes sort by them; where only the first ``limit`` places are wanted, what lies beyond
is dropped after the first count. An insertion pass then settles neighbours whose keys are closer
than their rounding, by the exact float64 value ``c / total · target / factor``. Equal values keep
the order of the row, which is the order of the vocabulary: the result equals that of a stable
sort of the exact values.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

from cellweave.kernels.counter_random import uniform

__all__ = ["rank_rows"]

_DIGITS = 9
_RADIX = 1 << _DIGITS
_STEPS = _RADIX * _RADIX  # what two digits tell apart
_CLOSE = 16  # units in the last place of a key: three roundings, with room
_SHORT = 1 << 16  # rows and tables below: a place and a column share the lower half of a word


def rank_rows(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, tokens: np.ndarray,
    factors: np.ndarray, groups: np.ndarray, totals: np.ndarray, target: float, single: bool,
    starts: np.ndarray, limits: np.ndarray, keys: np.ndarray,
    out_ids: np.ndarray, out_values: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Write ids (and values) of each row in descending order of value over factor; count them.

    Parameters
    ----------
    indptr, indices, data
        CSR rows; float32 data.
    tokens, factors
        ``(n_groups, n_columns)``: id (``-1``: left out) and positive float64 divisor.
    groups
        Group of each row (a technology), int64.
    totals, target, single
        Total of each row and what it is scaled to; ``target = 0`` leaves values unscaled.
        ``single`` rounds the scaled value to float32 after each step, as float32 matrices do.
    starts, limits
        Where each row's tokens start in the output, and how many there are at most.
    keys
        Random key of each row: a row longer than its limit is thinned at random, order kept.
        An empty array cuts it instead.
    out_ids, out_values
        Written; ``out_values`` may be empty. Values are ``c / total · target``, without factor.

    Returns
    -------
    numpy.ndarray
        How many tokens each row has: stored zeros and columns without an id have none.
    """
    written = np.zeros(len(starts), dtype=np.int64)
    inverses = np.where(tokens >= 0, 1.0 / factors, 0.0).astype(np.float32)
    widest = int(np.diff(indptr).max(initial=0))
    short = widest <= _SHORT and tokens.shape[1] <= _SHORT
    # Ids that follow each other need no look-up: the usual case after a fit on the same data.
    runs = np.all(np.diff(tokens, axis=1) == 1, axis=1) & (tokens[:, :1] >= 0).all(axis=1)
    _rank_rows(
        indptr, indices, data, tokens, runs, factors, inverses, groups, totals, target, single,
        starts, limits, keys, widest, short, out_ids, out_values, written,
    )  # fmt: skip
    return written


@njit(cache=True, nogil=True)
def _rank_rows(  # type: ignore[no-untyped-def]
    indptr, indices, data, tokens, runs, factors, inverses, groups, totals, target, single,
    starts, limits, thinning, widest, short, out_ids, out_values, written,
):  # fmt: skip
    keys = np.empty(widest, dtype=np.float32)
    words, other = np.empty(widest, dtype=np.uint64), np.empty(widest, dtype=np.uint64)
    near = np.empty(widest, dtype=np.int32)
    low, high = np.empty(_RADIX, dtype=np.uint32), np.empty(_RADIX + 1, dtype=np.uint32)
    for i in range(len(starts)):
        columns = indices[indptr[i] : indptr[i + 1]]
        counts = data[indptr[i] : indptr[i + 1]]
        divisor, mine = factors[groups[i]], tokens[groups[i]]
        bits = _keys_of_row(columns, counts, inverses[groups[i]], keys)
        wanted = len(columns) if len(thinning) > 0 else limits[i]
        n = _sorted_words(bits, columns, short, wanted, words, other, low, high)
        _settle(words[:n], near, short, columns, counts, divisor, totals[i], target, single)
        if n > limits[i]:
            if len(thinning) > 0:
                _thin(words[:n], limits[i], thinning[i])
            n = limits[i]
        written[i] = n
        first = starts[i]
        _write_ids(words[:n], short, runs[groups[i]], columns, mine, out_ids[first : first + n])
        if len(out_values) > 0:
            out = out_values[first : first + n]
            _write_values(words[:n], short, counts, totals[i], target, single, out)


@njit(cache=True, nogil=True)
def _keys_of_row(columns, counts, inverse, keys):  # type: ignore[no-untyped-def]
    """Give the bits of the approximate value of each entry; what has no id is 0."""
    for k in range(len(columns)):
        keys[k] = counts[k] * inverse[columns[k]]
    return keys.view(np.uint32)[: len(columns)]


@njit(cache=True, nogil=True)
def _sorted_words(bits, columns, short, wanted, words, other, low, high):  # type: ignore[no-untyped-def]
    """Sort at least the ``wanted`` largest keys, descending, and count them; 0 is left out.

    One word an entry: how far its key is from the largest in the upper half, its place in the
    row in the lower, and its column beside that where both are short. Equal digits keep the order
    of the row.
    """
    smallest, largest, zeros = _range(bits)
    if largest == 0:
        return 0
    spread = np.uint64(largest - smallest)
    shift = np.uint64(0)
    while spread >> shift >= np.uint64(_STEPS):
        shift += np.uint64(1)
    _make_words(bits, columns, short, largest, np.uint32(spread), words)
    upper = shift + np.uint64(32 + _DIGITS)
    _count_digits(words[: len(bits)], upper, np.uint64(0xFFFFFFFF), high)
    worst, n = _worst(high, wanted, shift, spread), len(bits)
    if zeros or worst < spread:
        n = _drop(words[:n], (worst + np.uint64(1)) << np.uint64(32))
    lower, mask = shift + np.uint64(32), np.uint64(_RADIX - 1)
    _count_digits(words[:n], lower, mask, low)
    _starts_of(low)
    _starts_of(high)
    _place(words[:n], lower, mask, low, other)
    _place(other[:n], upper, np.uint64(0xFFFFFFFF), high, words)
    return n


@njit(cache=True, nogil=True)
def _range(bits):  # type: ignore[no-untyped-def]
    """Give the smallest key above 0, the largest key, and whether one is 0."""
    below, largest, least = np.uint32(0xFFFFFFFF), np.uint32(0), np.uint32(0xFFFFFFFF)
    for k in range(len(bits)):
        largest, least = max(largest, bits[k]), min(least, bits[k])
        # A zero wraps to the largest word, so it is never the smallest.
        below = min(below, bits[k] - np.uint32(1))
    return below + np.uint32(1), largest, least == 0


@njit(cache=True, nogil=True)
def _make_words(bits, columns, short, largest, spread, words):  # type: ignore[no-untyped-def]
    half, quarter = np.uint64(32), np.uint64(16)
    if short:
        for k in range(len(bits)):
            # A key of 0 stands just beyond the range, from where it is dropped.
            down = np.uint64(min(largest - bits[k], spread + np.uint32(1)))
            words[k] = (down << half) | (np.uint64(k) << quarter) | np.uint64(columns[k])
        return
    for k in range(len(bits)):
        down = np.uint64(min(largest - bits[k], spread + np.uint32(1)))
        words[k] = (down << half) | np.uint64(k)


@njit(cache=True, nogil=True, inline="always")
def _place_of(word, short):  # type: ignore[no-untyped-def]
    return np.uint32(word) >> np.uint32(16) if short else np.uint32(word)


@njit(cache=True, nogil=True)
def _count_digits(words, shift, mask, counts):  # type: ignore[no-untyped-def]
    counts[:] = 0
    for k in range(len(words)):
        counts[(words[k] >> shift) & mask] += np.uint32(1)


@njit(cache=True, nogil=True)
def _worst(high, wanted, shift, spread):  # type: ignore[no-untyped-def]
    """Say how far below the largest a key may be to come among the first ``wanted``."""
    before = np.int64(0)
    for d in range(_RADIX):
        if before >= wanted:
            # Values may round across the border of a digit: one digit more is kept.
            return min((np.uint64(d + 1) << (shift + np.uint64(_DIGITS))) - np.uint64(1), spread)
        before += np.int64(high[d])
    return spread


@njit(cache=True, nogil=True)
def _drop(words, end):  # type: ignore[no-untyped-def]
    """Move the words below ``end`` to the front, order kept, and count them."""
    n = 0
    for k in range(len(words)):
        word = words[k]
        words[n] = word
        n += word < end
    return n


@njit(cache=True, nogil=True)
def _starts_of(counts):  # type: ignore[no-untyped-def]
    before = np.uint32(0)
    for d in range(len(counts)):
        count = counts[d]
        counts[d] = before
        before += count


@njit(cache=True, nogil=True)
def _place(words, shift, mask, starts, out):  # type: ignore[no-untyped-def]
    for k in range(len(words)):
        word = words[k]
        digit = (word >> shift) & mask
        at = starts[digit]
        starts[digit] = at + np.uint32(1)
        out[at] = word


@njit(cache=True, nogil=True)
def _settle(words, near, short, columns, counts, divisor, total, target, single):  # type: ignore[no-untyped-def]
    """Put neighbours whose keys say too little into the order of value, then of place."""
    half, close, done = np.uint64(32), np.uint64(_CLOSE), 0
    for n in range(_near_neighbours(words, near)):
        k = near[n]
        # A word that moves up changes the neighbour of the next one.
        while k > done and k < len(words) and (words[k - 1] >> half) + close >= words[k] >> half:
            if not _alike(words[k - 1], words[k], short, columns, counts, divisor):
                _insert(words, k, short, columns, counts, divisor, total, target, single)
            done = k
            k += 1


@njit(cache=True, nogil=True, inline="always")
def _alike(before, word, short, columns, counts, divisor):  # type: ignore[no-untyped-def]
    """Tell whether two entries of the same count and factor stand in the order of the row."""
    a, b = _place_of(before, short), _place_of(word, short)
    return counts[a] == counts[b] and divisor[columns[a]] == divisor[columns[b]] and a < b


@njit(cache=True, nogil=True)
def _near_neighbours(words, near):  # type: ignore[no-untyped-def]
    """List the places whose key does not stand clear of the one before; few as a rule."""
    half, close, n = np.uint64(32), np.uint64(_CLOSE), 0
    for k in range(1, len(words)):
        near[n] = k
        n += (words[k - 1] >> half) + close >= words[k] >> half
    return n


@njit(cache=True, nogil=True, inline="always")
def _insert(words, k, short, columns, counts, divisor, total, target, single):  # type: ignore[no-untyped-def]
    """Move a word up to where its exact value belongs among those before it."""
    half, close = np.uint64(32), np.uint64(_CLOSE)
    word = words[k]
    key, place = word >> half, _place_of(word, short)
    count, factor = counts[place], divisor[columns[place]]
    mine = _scaled(count, total, target, single) / factor
    j = k
    while j > 0:
        rival = words[j - 1]
        its_key, its_place = rival >> half, _place_of(rival, short)
        if its_key + close < key:
            break
        if its_key <= key + close:
            its_count, its_factor = counts[its_place], divisor[columns[its_place]]
            its = mine
            if its_count != count or its_factor != factor:
                its = _scaled(its_count, total, target, single) / its_factor
            if its > mine or (its == mine and its_place < place):
                break
        words[j] = rival
        j -= 1
    words[j] = word


@njit(cache=True, nogil=True, inline="always")
def _scaled(count, total, target, single):  # type: ignore[no-untyped-def]
    if target <= 0:
        return np.float64(count)
    if single:
        part = np.float32(np.float32(count) / np.float32(total))
        return np.float64(np.float32(part * np.float32(target)))
    return np.float64(count) / total * target


@njit(cache=True, nogil=True)
def _thin(words, wanted, key):  # type: ignore[no-untyped-def]
    """Move ``wanted`` words to the front: each set of them equally likely, order kept."""
    at = 0
    for k in range(len(words)):
        if uniform(key, k) * (len(words) - k) < wanted - at:
            words[at] = words[k]
            at += 1


@njit(cache=True, nogil=True)
def _write_ids(words, short, run, columns, tokens, out):  # type: ignore[no-untyped-def]
    mask = np.uint64(_SHORT - 1)
    if short and run:
        first = tokens[0]
        for k in range(len(words)):
            out[k] = np.int32(words[k] & mask) + first
    elif short:
        for k in range(len(words)):
            out[k] = tokens[words[k] & mask]
    else:
        for k in range(len(words)):
            out[k] = tokens[columns[np.uint32(words[k])]]


@njit(cache=True, nogil=True)
def _write_values(words, short, counts, total, target, single, out):  # type: ignore[no-untyped-def]
    for k in range(len(words)):
        out[k] = _scaled(counts[_place_of(words[k], short)], total, target, single)
