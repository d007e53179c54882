"""Values of an HDF5 dataset read from the bytes of its file, where these lie as they are needed.

The library reads through one lock and a small cache, unpacks a chunk anew for each reader, and
copies. Datasets in one piece or in chunks, plain or packed by gzip (with or without shuffling), are
read here by offset; :func:`stored_values` gives ``None`` for all others, and where a first look
does not show the same values, and the library reads them.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["StoredValues", "stored_values"]

_GZIP, _SHUFFLE = 1, 2  # numbers of HDF5's filters
_GLANCE = 64  # values compared with what the library reads


@dataclass(slots=True, kw_only=True)
class StoredValues:
    """Hold where the values of a one-dimensional dataset lie in a file.

    Parameters
    ----------
    descriptor
        The open file; closed by whoever opened it.
    dtype
        Type of the values as stored.
    size
        How many there are.
    per_chunk
        How many a chunk holds.
    offsets, lengths
        Bytes at which the chunks start, and how many each takes; the last plain one may be cut.
    filters
        Numbers of the filters, in the order in which they were applied; empty when plain.
    skipped
        Of each chunk, a bit for each filter that was left out.
    """

    descriptor: int
    dtype: np.dtype
    size: int
    per_chunk: int
    offsets: np.ndarray
    lengths: np.ndarray
    filters: tuple[int, ...] = ()
    skipped: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _kept: tuple[int, np.ndarray] | None = None
    _scratch: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint8))

    def announce(self, first: int, last: int) -> None:
        """Tell the system that ``first`` … ``last - 1`` are read soon."""
        if hasattr(os, "posix_fadvise"):
            for offset, length in self._stretches(first, last):
                os.posix_fadvise(self.descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def read(
        self, first: int, last: int, out: np.ndarray, pool: ThreadPoolExecutor | None = None
    ) -> None:
        """Write the values ``first`` … ``last - 1`` into ``out``, which may be of another type."""
        if last <= first:
            return
        if not self.filters and out.dtype == self.dtype and out.flags.c_contiguous:
            self._read_plain(first, last, out)
            return
        found = self._unpacked(first, last, pool) if self.filters else self._loaded(first, last)
        at = 0
        for part in found:
            _convert(part, out[at : at + len(part)])
            at += len(part)

    def _loaded(self, first: int, last: int) -> list[np.ndarray]:
        need = (last - first) * self.dtype.itemsize
        if len(self._scratch) < need:
            self._scratch = np.empty(need + need // 8, dtype=np.uint8)
        values = self._scratch[:need].view(self.dtype)
        self._read_plain(first, last, values)
        return [values]

    def _read_plain(self, first: int, last: int, out: np.ndarray) -> None:
        view, at = out.view(np.uint8).data, 0
        for offset, length in self._stretches(first, last):
            read_exactly(self.descriptor, offset, view[at : at + length])
            at += length

    def _stretches(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield offset and length of what holds the values; neighbours in the file are joined."""
        chunks = np.arange(first // self.per_chunk, -(-last // self.per_chunk))
        starts, lengths = self.offsets[chunks], self.lengths[chunks]
        if not self.filters:
            step, width = self.dtype.itemsize, self.per_chunk
            begins = np.maximum(first - chunks * width, 0)
            ends = np.minimum(last - chunks * width, width)
            starts, lengths = starts + begins * step, (ends - begins) * step
        breaks = np.flatnonzero(starts[1:] != starts[:-1] + lengths[:-1]) + 1
        for a, b in zip(np.r_[0, breaks], np.r_[breaks, len(starts)]):
            yield int(starts[a]), int(lengths[a:b].sum())

    def _unpacked(
        self, first: int, last: int, pool: ThreadPoolExecutor | None
    ) -> Iterator[np.ndarray]:
        """Yield the parts of the chunks; the last one is kept: the next range may want it."""
        chunks = range(first // self.per_chunk, -(-last // self.per_chunk))
        kept = self._kept
        wanted = [c for c in chunks if kept is None or c != kept[0]]
        done = iter((pool.map if pool and len(wanted) > 1 else map)(self._chunk, wanted))
        for c in chunks:
            values = kept[1] if kept is not None and c == kept[0] else next(done)
            self._kept = (c, values)
            start = c * self.per_chunk
            yield values[max(first - start, 0) : last - start]

    def _chunk(self, number: int) -> np.ndarray:
        """Read one chunk and undo its filters, the last one first."""
        raw: Any = bytearray(int(self.lengths[number]))
        read_exactly(self.descriptor, int(self.offsets[number]), memoryview(raw))
        n_bytes = self.per_chunk * self.dtype.itemsize
        for bit in reversed(range(len(self.filters))):
            if not int(self.skipped[number]) >> bit & 1:
                raw = _UNDO[self.filters[bit]](raw, n_bytes, self.dtype.itemsize)
        if len(raw) != n_bytes:
            msg = f"chunk {number} unpacks to {len(raw)} bytes, expected {n_bytes}"
            raise ValueError(msg)
        return np.frombuffer(raw, dtype=self.dtype)


def stored_values(dataset: Any, descriptor: int) -> StoredValues | None:
    """Find out where the values of a dataset lie; ``None`` where only the library can tell."""
    file = dataset.file
    plain = dataset.ndim == 1 and dataset.dtype.kind in "iuf" and dataset.dtype.isnative
    if not plain or file.driver != "sec2" or file.userblock_size or not hasattr(os, "preadv"):
        return None
    found = _in_chunks(dataset, descriptor) if dataset.chunks else _in_one(dataset, descriptor)
    return found if found is not None and _looks_right(found, dataset) else None


def _in_one(dataset: Any, descriptor: int) -> StoredValues | None:
    offset = dataset.id.get_offset()
    if offset is None or dataset.size == 0 or dataset.external:
        return None
    return StoredValues(
        descriptor=descriptor, dtype=dataset.dtype, size=dataset.size, per_chunk=dataset.size,
        offsets=np.array([offset]), lengths=np.array([dataset.size * dataset.dtype.itemsize]),
    )  # fmt: skip


def _in_chunks(dataset: Any, descriptor: int) -> StoredValues | None:
    plist = dataset.id.get_create_plist()
    filters = tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))
    if not set(filters) <= set(_UNDO) or not hasattr(dataset.id, "chunk_iter"):
        return None
    n = -(-dataset.size // dataset.chunks[0])
    table = np.full((n, 3), -1, dtype=np.int64)

    def note(chunk: Any) -> None:
        place = chunk.chunk_offset[0] // dataset.chunks[0]
        table[place] = chunk.byte_offset, chunk.size, chunk.filter_mask

    dataset.id.chunk_iter(note)
    if n == 0 or (table[:, 0] < 0).any():  # a chunk that was never written has no bytes
        return None
    return StoredValues(
        descriptor=descriptor, dtype=dataset.dtype, size=dataset.size,
        per_chunk=dataset.chunks[0], offsets=table[:, 0], lengths=table[:, 1], filters=filters,
        skipped=table[:, 2],
    )  # fmt: skip


def _looks_right(found: StoredValues, dataset: Any) -> bool:
    """Compare the first and the last values with what the library reads."""
    n = min(_GLANCE, found.size)
    for first in (0, found.size - n):
        mine = np.empty(n, dtype=found.dtype)
        try:
            found.read(first, first + n, mine)
            same = mine.tobytes() == np.asarray(dataset[first : first + n]).tobytes()
        except (OSError, ValueError, EOFError):
            return False  # damaged: the library says in which way
        if not same:
            return False
    return True


def read_exactly(descriptor: int, offset: int, view: memoryview) -> None:
    """Fill ``view`` from a place of a file; a file that ends before is an error."""
    done = 0
    while done < len(view):
        got = os.preadv(descriptor, [view[done:]], offset + done)
        if got == 0:
            msg = f"the file ends at byte {offset + done}, where values should be"
            raise EOFError(msg)
        done += got


def _convert(values: np.ndarray, out: np.ndarray) -> None:
    """Copy into another type; whole numbers that it does not hold are refused, not wrapped."""
    if out.dtype.kind in "iu" and values.dtype != out.dtype and len(values):
        limits = np.iinfo(out.dtype)
        if values.min() < limits.min or values.max() > limits.max:
            msg = f"values from {values.min()} to {values.max()} are no {out.dtype}"
            raise ValueError(msg)
    out[:] = values


def _unzipped(raw: Any, n_bytes: int, width: int) -> Any:
    """Undo gzip, and stop where more than a chunk comes out."""
    unpacker: Any = _zlib()
    try:
        return unpacker.decompressobj().decompress(raw, n_bytes + 1)
    except unpacker.error as error:
        msg = f"a chunk cannot be unpacked: {error}"
        raise ValueError(msg) from error


@functools.cache  # a library that is missing would be looked for again at every chunk
def _zlib() -> Any:
    """Return the faster of two libraries that do the same."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return importlib.import_module("zlib")


def _unshuffled(raw: Any, n_bytes: int, width: int) -> Any:
    """Undo shuffling: first bytes of all values, then second bytes, and so on."""
    whole = len(raw) // width * width
    planes = np.frombuffer(raw, np.uint8, count=whole).reshape(width, -1)
    return planes.T.tobytes() + bytes(raw[whole:])


_UNDO: dict[int, Callable[[Any, int, int], Any]] = {_GZIP: _unzipped, _SHUFFLE: _unshuffled}
