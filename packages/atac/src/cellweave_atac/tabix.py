"""Read only those parts of a fragments file that lie near some regions, by its tabix index.

The file is BGZF (gzip in blocks of at most 64 KiB), the index (``.tbi`` beside it) says for each
genomic bin in which stretches of blocks its lines stand. The stretches of all regions are joined
and each is read once, so a line comes at most once; lines beside the regions come along, and who
counts leaves them out. Everything in the index is checked: it may not point outside the file.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from cellweave.errors import UnreadableFileError
from cellweave.linking.regions import plain_chromosome

__all__ = ["index_beside", "open_stretches"]

_LONGEST = 1 << 29  # what bins of tabix reach
_WINDOW = 14  # bits of the smallest bins and of the linear index
_LARGEST_INDEX = 1 << 30
_HEADER = struct.Struct("<4s8i")
_LEVELS = ((1, 26), (9, 23), (73, 20), (585, 17), (4681, 14))
_Stretch = tuple[int, int]


def index_beside(path: Path) -> Path | None:
    """Return the index of a fragments file, if there is one and it is not older than the file."""
    index = path.with_name(f"{path.name}.tbi")
    if index.is_file() and index.stat().st_mtime >= path.stat().st_mtime:
        return index
    return None


def open_stretches(
    path: Path, index: Path, chrom: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> BinaryIO:
    """Open the lines that may overlap the regions as one stream of text.

    Parameters
    ----------
    path, index
        The fragments and their ``.tbi``.
    chrom, starts, ends
        The regions, half-open; chromosomes in any dialect.
    """
    known = _Index(index)
    stretches = known.stretches(chrom, starts, ends)
    size = path.stat().st_size
    if any(a >= b or b >> 16 > size for a, b in stretches):
        msg = f"{str(index)!r} points outside {path.name!r}. Make it again: tabix -p bed {path}"
        raise UnreadableFileError(msg)
    return io.BufferedReader(_Stretches(path, stretches), 1 << 20)


class _Index:
    """Hold a parsed ``.tbi``: for each chromosome its bins and its linear index."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with gzip.open(path) as file:
                data = file.read(_LARGEST_INDEX + 1)
            self._parse(io.BytesIO(data if len(data) <= _LARGEST_INDEX else b""))
        except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
            msg = f"Cannot read {str(path)!r} as a tabix index: {error}. Make it again with tabix."
            raise UnreadableFileError(msg) from error

    def _parse(self, data: io.BytesIO) -> None:
        magic, n_chrom, _, *_, n_names = _HEADER.unpack(data.read(_HEADER.size))
        if magic != b"TBI\1":
            msg = "it does not begin as one"
            raise ValueError(msg)
        names = data.read(n_names).split(b"\0")[:-1]
        if len(names) != n_chrom:
            msg = f"{len(names)} names for {n_chrom} chromosomes"
            raise ValueError(msg)
        self.names = pd.Index(plain_chromosome(pd.Series([n.decode() for n in names], dtype=str)))
        self.bins: list[dict[int, list[_Stretch]]] = []
        self.linear: list[np.ndarray] = []
        for _ in names:
            self.bins.append(dict(self._bin(data) for _ in range(_count(data))))
            self.linear.append(_numbers(data, _count(data), "<u8"))

    @staticmethod
    def _bin(data: io.BytesIO) -> tuple[int, list[_Stretch]]:
        number = int(_numbers(data, 1, "<u4")[0])
        ends = _numbers(data, 2 * _count(data), "<u8")
        return number, list(zip(ends[::2].tolist(), ends[1::2].tolist()))

    def stretches(self, chrom: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[_Stretch]:
        """Return the joined stretches of the file, in its order, as virtual offsets."""
        at = self.names.get_indexer(pd.Index(plain_chromosome(pd.Series(chrom, dtype=str))))
        found: set[_Stretch] = set()
        for c, start, end in zip(at.tolist(), starts.tolist(), ends.tolist()):
            if c >= 0:
                found.update(self._of_region(c, max(int(start), 0), min(int(end), _LONGEST)))
        return _joined(sorted(found))

    def _of_region(self, chrom: int, start: int, end: int) -> Iterator[_Stretch]:
        linear = self.linear[chrom]
        window = start >> _WINDOW
        # No line that reaches this window stands before what the linear index says of it.
        first = int(linear[min(window, len(linear) - 1)]) if len(linear) else 0
        bins = self.bins[chrom]
        for number in _bins_of(start, end):
            for a, b in bins.get(number, ()):
                if b > first:
                    yield max(a, first), b


class _Stretches(io.RawIOBase):
    """Unpack the blocks of some stretches of a BGZF file, one after the other."""

    def __init__(self, path: Path, stretches: list[_Stretch]) -> None:
        self._path = path
        self._file = path.open("rb")
        self._pieces = self._unpacked(stretches)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        n = min(len(view), len(self._left))
        view[:n] = self._left[:n]
        self._left = self._left[n:]
        return n

    def _unpacked(self, stretches: list[_Stretch]) -> Iterator[bytes]:
        for begin, end in stretches:
            place, skip = begin >> 16, begin & 0xFFFF
            while place < end >> 16 or (place == end >> 16 and skip < end & 0xFFFF):
                data, size = self._block(place)
                last = end & 0xFFFF if place == end >> 16 else len(data)
                yield data[skip:last]
                place, skip = place + size, 0

    def _block(self, place: int) -> tuple[bytes, int]:
        """Return what one block unpacks to, and its packed size."""
        self._file.seek(place)
        head = self._file.read(18)
        try:
            if head[:4] != b"\x1f\x8b\x08\x04" or head[12:14] != b"BC":
                msg = "there is no BGZF block"
                raise ValueError(msg)
            size = int.from_bytes(head[16:18], "little") + 1
            unpack = zlib.decompressobj(-15)
            data = unpack.decompress(self._file.read(size - 26), 1 << 16)
            if not unpack.eof:
                msg = "the block is cut short"
                raise ValueError(msg)
        except (ValueError, zlib.error) as error:
            msg = (
                f"Cannot read {str(self._path)!r} at byte {place:,}: {error}. Fetch the file and "
                "its index again."
            )
            raise UnreadableFileError(msg) from error
        return data, size


def _bins_of(start: int, end: int) -> Iterator[int]:
    """Yield the numbers of all bins that overlap a region (the UCSC scheme)."""
    yield 0
    for offset, bits in _LEVELS:
        yield from range(offset + (start >> bits), offset + ((max(end, start + 1) - 1) >> bits) + 1)


def _joined(stretches: list[_Stretch]) -> list[_Stretch]:
    joined: list[_Stretch] = []
    for begin, end in stretches:
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _count(data: io.BytesIO) -> int:
    return int(_numbers(data, 1, "<i4")[0])


def _numbers(data: io.BytesIO, n: int, kind: str) -> np.ndarray:
    """Read ``n`` numbers; a count that the rest cannot hold is damage, not memory."""
    size = n * np.dtype(kind).itemsize
    if n < 0 or size > len(data.getbuffer()) - data.tell():
        msg = f"it promises {n} numbers that are not there"
        raise ValueError(msg)
    return np.frombuffer(data.read(size), dtype=kind)
