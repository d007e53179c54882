"""Read text that may be gzipped, may be damaged, and may be a bomb."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cellweave.errors import UnreadableFileError

__all__ = ["open_limited"]

_GZIP_MAGIC = b"\x1f\x8b"
DEFAULT_LIMIT = 1 << 40


class _Limited(io.RawIOBase):
    """Pass bytes on until more than ``limit`` have come; count them."""

    def __init__(self, source: BinaryIO, path: Path, limit: int) -> None:
        self._source = source
        self._path = path
        self._limit = limit
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        block = self._source.read(len(view))
        view[: len(block)] = block
        self._seen += len(block)
        if self._seen > self._limit:
            msg = (
                f"{str(self._path)!r} unpacks to more than {self._limit:,} bytes. "
                "If that is right, raise max_bytes; a small file that unpacks to much more than "
                "it should is likely to be made to harm."
            )
            raise UnreadableFileError(msg)
        return len(block)


@contextmanager
def open_limited(path: str | Path, *, max_bytes: int = DEFAULT_LIMIT) -> Iterator[BinaryIO]:
    """Open a plain or gzipped file for reading; damage and excess are errors that name the file.

    Parameters
    ----------
    path
        The file; gzip is recognised by its first bytes, not by its name.
    max_bytes
        Most bytes it may unpack to.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            source = gzip.GzipFile(fileobj=raw) if packed else raw
            yield io.BufferedReader(_Limited(source, path, max_bytes), 1 << 20)  # type: ignore[arg-type]
    except UnreadableFileError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        msg = f"Cannot read {str(path)!r}: {error}. Restore the file from a copy or fetch it again."
        raise UnreadableFileError(msg) from error
