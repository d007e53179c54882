"""Random numbers that are a function of (seed, cell name, purpose, counter) and of nothing else.

A cell's key is a hash of its name mixed with the seed and the purpose; draw ``c`` is a finalising
mix of key and counter (the construction of SplitMix64). No state is carried, so a cell gets the
same numbers whatever its neighbours, its position, the batch or the thread.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numba import njit

__all__ = ["below", "cell_keys", "mix", "seed_key", "short_mix", "uniform"]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_STRIDE = np.uint32(0x9E3779B1)
_ROUND_1 = np.uint32(0x21F0AAAD)
_ROUND_2 = np.uint32(0xD35A2D97)


def seed_key(seed: int, purpose: str) -> np.uint64:
    """Return the 64-bit key of a seed and a purpose."""
    text = f"{int(seed)}\x1f{purpose}".encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


def cell_keys(names: np.ndarray, *, seed: int, purpose: str) -> np.ndarray:
    """Return one uint64 key a cell.

    Parameters
    ----------
    names
        Cell names.
    seed, purpose
        What else decides the numbers: two purposes give independent numbers.
    """
    text = np.ascontiguousarray(np.asarray(names, dtype=str))
    base = seed_key(seed, purpose)
    if text.dtype.itemsize == 0 or len(text) == 0:
        return np.full(len(text), base, dtype=np.uint64)
    characters = text.view(np.uint32).reshape(len(text), -1)
    return _hash_rows(characters, base)


@njit(cache=True, nogil=True, inline="always")
def mix(key, counter):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return 64 random bits for one key and one counter."""
    z = key + (np.uint64(counter) + np.uint64(1)) * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def short_mix(key, counter):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return 32 random bits for one key and one counter, in 32-bit steps that fill vector lanes.

    Both halves of the key enter, one before and one after the first of two mixing rounds.
    """
    x = np.uint32(np.uint32(counter) * _STRIDE + np.uint32(key))
    x = np.uint32((x ^ (x >> np.uint32(16))) * _ROUND_1)
    x = np.uint32(x ^ np.uint32(key >> np.uint64(32)))
    x = np.uint32((x ^ (x >> np.uint32(15))) * _ROUND_2)
    return np.uint32(x ^ (x >> np.uint32(15)))


@njit(cache=True, nogil=True, inline="always")
def uniform(key, counter):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return a float64 in ``[0, 1)``."""
    return np.float64(mix(key, counter) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True, inline="always")
def below(key, counter, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return an integer in ``[0, n)``; the bias is below ``n / 2**53``."""
    return np.int64(uniform(key, counter) * n)


@njit(cache=True, nogil=True)
def _hash_rows(characters, base):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    keys = np.empty(len(characters), dtype=np.uint64)
    for i in range(len(characters)):
        key = base
        for j in range(characters.shape[1]):
            character = characters[i, j]
            if character == 0:
                break
            key = mix(key ^ np.uint64(character), j)
        keys[i] = mix(key, 1 << 32)
    return keys
