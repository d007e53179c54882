"""Memory of tokens that nobody holds any more, used again, and of rows that all cells share.

A stream makes arrays of some megabytes for every batch and drops them with the next. Fresh pages
have to be cleared by the system, which takes as long as half of the bins; memory that was already
written to is there.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any

import numpy as np

__all__ = ["SharedRows", "TokenMemory"]

_LEAST_BYTES = 1 << 18  # smaller arrays come from the heap, which keeps its pages
_MOST_BYTES = 1 << 27  # kept in all by one tokenizer
_MOST_SHARED = 1 << 24  # bytes of rows kept although nobody holds them


class TokenMemory:
    """Give arrays; their memory comes back when the last view of it is gone."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenMemory:
        """Return one of its own: memory is not shared and not copied."""
        return TokenMemory()

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenMemory, ()

    def empty(self, n: int, dtype: Any) -> np.ndarray:
        """Return an array of ``n`` entries with any content."""
        size = int(n) * np.dtype(dtype).itemsize
        if not _LEAST_BYTES <= size <= _MOST_BYTES // 2 or not _COUNTS_HOLDERS:
            return np.empty(n, dtype=dtype)
        with self._lock:
            return self._block(size)[:size].view(dtype)

    def _block(self, size: int) -> np.ndarray:
        blocks = self._blocks
        for i in range(len(blocks)):
            if blocks[i].nbytes >= size and _holders(blocks, i) == _ALONE:
                return blocks[i]
        block = np.empty(size + size // 8, dtype=np.uint8)
        blocks.append(block)
        while sum(b.nbytes for b in blocks) > _MOST_BYTES:
            del blocks[0]  # whoever holds it keeps it; it only does not come back
        return block


class SharedRows:
    """Give the same row for every cell, written once; a large one lasts while it is held."""

    def __init__(self) -> None:
        self._held: weakref.ref[np.ndarray] | None = None
        self._kept: np.ndarray | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedRows:
        """Return one of its own."""
        return SharedRows()

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedRows, ()

    def repeated(self, row: np.ndarray, n: int) -> np.ndarray:
        """Return ``row`` ``n`` times, one behind the other; not to be written to."""
        size = n * len(row)
        held = None if self._held is None else self._held()
        if held is None or len(held) < size or not np.array_equal(held[: len(row)], row):
            held = np.empty(size, dtype=row.dtype)
            held.reshape(n, len(row))[:] = row
            held.flags.writeable = False
            self._held = weakref.ref(held)
            self._kept = held if held.nbytes <= _MOST_SHARED else None
        return held[:size]


def _holders(blocks: list[np.ndarray], i: int) -> int:
    return sys.getrefcount(blocks[i])


# Only where references are counted, by one thread at a time, does their number say who holds.
_COUNTS_HOLDERS = (
    sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
)
_ALONE = _holders([np.empty(1)], 0) if _COUNTS_HOLDERS else 0
