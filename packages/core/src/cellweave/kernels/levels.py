"""The distinct values of a cell, how many entries are at or below each, and which an entry has.

Expression of one cell takes few distinct values: small whole counts are told apart by a histogram,
others (logged, normalised) by a hash table of their bit patterns, and only a cell of more distinct
values than that table takes is sorted. Bit patterns of positive float32 ascend as the values do.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["LARGEST_COUNT", "SLOTS", "TABLES", "levels_of", "sorted_levels"]

LARGEST_COUNT = 4096
SLOTS = 4096  # of the hash table, as many as counts, so that both use the same tables
TABLES = 4  # equal values that follow each other are counted apart: none waits for another
_MOST_LEVELS = 1024  # in the hash table: it stays a quarter full
_FEW = 48  # values up to which insertion sorts faster
_GOLDEN = np.uint32(0x9E3779B1)
_DIGIT = 11
_RADIX = 1 << _DIGIT


@njit(cache=True, nogil=True)
def levels_of(values, codes, tables, held, level, step, ends):  # type: ignore[no-untyped-def]
    """Write distinct values, ascending, and the code of each entry; -1 where there are too many.

    Parameters
    ----------
    values
        Entries of one cell, float32 above zero.
    codes
        uint16, as long: written, the count or the slot of each entry.
    tables, held
        Scratch, all zero before and after: ``(SLOTS, TABLES)`` and ``(SLOTS,)`` uint32.
    level, step, ends
        Written, one a level: its value, its code, and how many entries are at or below it.
    """
    largest = _whole_counts(values, codes)
    if largest >= 0:
        _count(codes, tables)
        return _levels_of_counts(largest, tables, level, step, ends)
    n = _hashed(values.view(np.uint32), codes, held, step)
    if n >= 0:
        _count(codes, tables)
        _sort_by_bits(step[:n], held)
        _levels_of_slots(step[:n], held, tables, level, ends)
    return n


@njit(cache=True, nogil=True)
def _whole_counts(values, codes):  # type: ignore[no-untyped-def]
    """Write values as counts and give the largest, or -1 where one is no small whole number."""
    wrong, largest = False, np.int32(0)
    for k in range(len(values)):
        count = np.int32(min(values[k], np.float32(LARGEST_COUNT)))
        wrong |= np.float32(count) != values[k]
        largest = max(largest, count)
        codes[k] = count
    return np.int32(-1) if wrong or largest >= LARGEST_COUNT else largest


@njit(cache=True, nogil=True)
def _count(codes, tables):  # type: ignore[no-untyped-def]
    whole, one = len(codes) // TABLES * TABLES, np.uint32(1)
    for k in range(0, whole, TABLES):
        for t in range(TABLES):
            tables[codes[k + t], t] += one
    for k in range(whole, len(codes)):
        tables[codes[k], 0] += one


@njit(cache=True, nogil=True)
def _levels_of_counts(largest, tables, level, step, ends):  # type: ignore[no-untyped-def]
    n, seen = 0, np.uint32(0)
    for count in range(1, largest + 1):
        found = _taken(tables, count)
        seen += found
        level[n], step[n], ends[n] = count, count, seen
        n += found > 0
    return n


@njit(cache=True, nogil=True, inline="always")
def _taken(tables, code):  # type: ignore[no-untyped-def]
    """Add what the tables counted, and clear it."""
    found = np.uint32(0)
    for t in range(TABLES):
        found += tables[code, t]
        tables[code, t] = 0
    return found


@njit(cache=True, nogil=True)
def _hashed(bits, codes, held, step):  # type: ignore[no-untyped-def]
    """Write the slot of each value, and the slots in use; -1, and all clear, if too many."""
    n, shift, mask = 0, np.uint32(20), np.uint32(SLOTS - 1)
    for k in range(len(bits)):
        slot = np.uint32(bits[k] * _GOLDEN) >> shift
        while held[slot] != bits[k]:
            if held[slot] == 0:
                if n == _MOST_LEVELS:
                    held[:] = 0
                    return -1
                held[slot], step[n] = bits[k], slot
                n += 1
            else:
                slot = (slot + np.uint32(1)) & mask
        codes[k] = slot
    return n


@njit(cache=True, nogil=True)
def _sort_by_bits(slots, held):  # type: ignore[no-untyped-def]
    words = np.empty(len(slots), dtype=np.uint64)
    for d in range(len(slots)):
        words[d] = (np.uint64(held[slots[d]]) << np.uint64(32)) | np.uint64(slots[d])
    if len(slots) > _FEW:
        words.sort()
    else:
        for d in range(1, len(words)):
            word, at = words[d], d
            while at > 0 and words[at - 1] > word:
                words[at] = words[at - 1]
                at -= 1
            words[at] = word
    for d in range(len(slots)):
        slots[d] = np.uint32(words[d])


@njit(cache=True, nogil=True)
def _levels_of_slots(slots, held, tables, level, ends):  # type: ignore[no-untyped-def]
    bits, seen = level.view(np.uint32), np.uint32(0)
    for d in range(len(slots)):
        seen += _taken(tables, slots[d])
        bits[d], ends[d] = held[slots[d]], seen
        held[slots[d]] = 0


@njit(cache=True, nogil=True)
def sorted_levels(values, level, place, ends):  # type: ignore[no-untyped-def]
    """Write distinct values, ascending, and entries in that order; all arrays as long as values.

    Entries ``place[ends[d - 1]:ends[d]]`` have the value ``level[d]``.
    """
    words = _sorted_words(values.view(np.uint32))
    bits, n, before = level.view(np.uint32), 0, np.uint32(0)
    for k in range(len(words)):
        key, place[k] = np.uint32(words[k] >> np.uint64(32)), np.uint32(words[k])
        n += k > 0 and key != before
        bits[n], ends[n], before = key, k + 1, key
    return n + 1


@njit(cache=True, nogil=True)
def _sorted_words(bits):  # type: ignore[no-untyped-def]
    """Give ``bits << 32 | place`` in ascending order: three counting passes by eleven bits."""
    words, other = np.empty(len(bits), np.uint64), np.empty(len(bits), np.uint64)
    starts = np.empty(_RADIX + 1, dtype=np.uint32)
    for k in range(len(bits)):
        words[k] = (np.uint64(bits[k]) << np.uint64(32)) | np.uint64(k)
    for turn in range(3):
        shift, mask = np.uint64(32 + turn * _DIGIT), np.uint64(_RADIX - 1)
        starts[:] = 0
        for k in range(len(words)):
            starts[((words[k] >> shift) & mask) + np.uint64(1)] += np.uint32(1)
        for d in range(_RADIX):
            starts[d + 1] += starts[d]
        for k in range(len(words)):
            digit = (words[k] >> shift) & mask
            other[starts[digit]] = words[k]
            starts[digit] += np.uint32(1)
        words, other = other, words
    return words
