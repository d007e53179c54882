"""In which order cells come: blocks are permuted, then the cells of a window of blocks.

Cells are cut into blocks of neighbours, which one read fetches. A keyed permutation (a Feistel
network walked until it stays inside the range) says which block comes when; every rank takes
each ``n_ranks``-th. ``blocks_per_window`` blocks form a window, and a second keyed permutation
mixes its cells. Nothing is stored or replayed: position → cell is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cellweave.errors import ConfigError
from cellweave.kernels.counter_random import mix, seed_key

__all__ = ["BlockOrder", "permuted"]

_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOrder:
    """Say which cell stands at which position of one epoch, for one rank.

    Parameters
    ----------
    n_cells
        Cells of the whole data.
    block
        Neighbouring cells that stay together on disk reads.
    blocks_per_window
        Blocks that are mixed with each other.
    seed, epoch
        What decides the order.
    rank, n_ranks
        Which share this is, of how many; every cell is in exactly one.
    shuffle
        ``False``: cells in their order on disk.
    """

    n_cells: int
    block: int = 64
    blocks_per_window: int = 256
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    n_ranks: int = 1
    shuffle: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that describe no order."""
        wrong = [
            f"{name}={getattr(self, name)!r}"
            for name, least in (("block", 1), ("blocks_per_window", 1), ("n_ranks", 1))
            if getattr(self, name) < least
        ]
        if self.n_cells < 0 or not 0 <= self.rank < max(self.n_ranks, 1):
            wrong.append(f"n_cells={self.n_cells!r}, rank={self.rank!r} of {self.n_ranks!r}")
        if wrong:
            msg = f"No order of cells: {', '.join(wrong)}. Expected counts of 1 or more, rank < n."
            raise ConfigError(msg)

    @property
    def n_blocks(self) -> int:
        """Count the blocks of the whole data; the last may be short."""
        return -(-self.n_cells // self.block)

    @property
    def own_blocks(self) -> int:
        """Count the blocks of this rank."""
        return max(0, -(-(self.n_blocks - self.rank) // self.n_ranks))

    @property
    def n_windows(self) -> int:
        """Count the windows of this rank."""
        return -(-self.own_blocks // self.blocks_per_window)

    def __len__(self) -> int:
        """Count the cells of this rank."""
        return self.own_blocks * self.block - self._gap_before(self.own_blocks)

    def window_start(self, window: int) -> int:
        """Say at which position a window starts."""
        slots = min(window * self.blocks_per_window, self.own_blocks)
        return slots * self.block - self._gap_before(slots)

    def window_at(self, position: int) -> int:
        """Say which window holds a position."""
        window = position // (self.block * self.blocks_per_window)
        # Positions after the short block stand a little earlier than full blocks would.
        return window + (window + 1 < self.n_windows and position >= self.window_start(window + 1))

    def window_blocks(self, window: int) -> np.ndarray:
        """Return the blocks of a window in their order on disk: its cells are mixed anyway."""
        first = window * self.blocks_per_window
        slots = np.arange(first, min(first + self.blocks_per_window, self.own_blocks))
        return np.sort(self._blocks_at(slots * self.n_ranks + self.rank))

    def window_cells(self, window: int) -> np.ndarray:
        """Return the cells of a window in the order in which they come."""
        starts = self.window_blocks(window) * self.block
        cells = (starts[:, None] + np.arange(self.block)).ravel()
        cells = cells[cells < self.n_cells]
        return cells[self.window_mixing(window, len(cells))]

    def window_mixing(self, window: int, n: int) -> np.ndarray:
        """Return the permutation of the ``n`` cells of a window."""
        if not self.shuffle:
            return np.arange(n)
        key = seed_key(self.seed, f"window/{self.epoch}/{self.rank}/{self.n_ranks}/{window}")
        return permuted(np.arange(n), n, key)

    def cells(self, start: int, stop: int) -> np.ndarray:
        """Return the cells at positions ``start`` … ``stop - 1``."""
        stop = min(stop, len(self))
        parts, at = [], start
        while at < stop:
            window = self.window_at(at)
            first = self.window_start(window)
            cells = self.window_cells(window)
            parts.append(cells[at - first : stop - first])
            at = first + len(cells)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _blocks_at(self, slots: np.ndarray) -> np.ndarray:
        if not self.shuffle:
            return slots
        return permuted(slots, self.n_blocks, seed_key(self.seed, f"blocks/{self.epoch}"))

    def _gap_before(self, slots: int) -> int:
        """Return by how much the short last block shortens the first ``slots`` of this rank."""
        short = self.n_blocks * self.block - self.n_cells
        if short == 0 or slots <= 0:
            return 0
        last = self._slot_of_last()
        mine = last % self.n_ranks == self.rank and last // self.n_ranks < slots
        return short if mine else 0

    def _slot_of_last(self) -> int:
        last = self.n_blocks - 1
        if not self.shuffle:
            return last
        return int(_slot_of(last, self.n_blocks, seed_key(self.seed, f"blocks/{self.epoch}")))


def permuted(values: np.ndarray, n: int, key: np.uint64) -> np.ndarray:
    """Send each of ``values`` in ``[0, n)`` to its place in the keyed permutation."""
    return _walk(np.asarray(values, dtype=np.uint64), np.uint64(n), key).astype(np.int64)


@njit(cache=True, nogil=True)
def _half_bits(n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    bits = np.uint64(1)
    while (np.uint64(1) << (bits * np.uint64(2))) < n:
        bits += np.uint64(1)
    return bits


@njit(cache=True, nogil=True)
def _walk(values, n, key):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    half = _half_bits(n)
    mask = (np.uint64(1) << half) - np.uint64(1)
    out = np.empty_like(values)
    for i in range(len(values)):
        x = values[i]
        while True:
            left, right = x >> half, x & mask
            for r in range(_ROUNDS):
                left, right = right, left ^ (mix(key ^ right, r) & mask)
            x = (left << half) | right
            if x < n:
                break
        out[i] = x
    return out


@njit(cache=True, nogil=True)
def _slot_of(value, n, key):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Invert the permutation for one value: the rounds run backwards."""
    half = _half_bits(np.uint64(n))
    mask = (np.uint64(1) << half) - np.uint64(1)
    x = np.uint64(value)
    while True:
        left, right = x >> half, x & mask
        for r in range(_ROUNDS - 1, -1, -1):
            left, right = right ^ (mix(key ^ left, r) & mask), left
        x = (left << half) | right
        if x < np.uint64(n):
            break
    return x
