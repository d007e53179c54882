"""Say in our words why an output could not be written."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellweave.errors import CellweaveError, UnwritableError

__all__ = ["told_as_ours"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
# HDF5 gives the number of the system's error only inside its text.
_IN_TEXT = re.compile(r"[Ee]rrno ?=? ?(\d+)")


@contextmanager
def told_as_ours(path: Path) -> Iterator[None]:
    """Turn the system's refusals while writing ``path`` into :class:`UnwritableError`."""
    try:
        yield
    except CellweaveError:
        raise
    except (OSError, RuntimeError) as error:
        number = _number_of(error)
        if number is None:
            raise
        raise UnwritableError(_text(path, number, error)) from error


def _number_of(error: BaseException) -> int | None:
    number = getattr(error, "errno", None)
    if number is None and (found := _IN_TEXT.search(str(error))):
        number = int(found[1])
    known = (*_FULL, *_FORBIDDEN, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST)
    return number if number in known else None


def _text(path: Path, number: int, error: BaseException) -> str:
    start = f"Cannot write {str(path)!r}"
    kept = "What stood there before is untouched."
    if number in _FULL:
        return (
            f"{start}: the disk is full, or a quota or size limit is reached ({error}). {kept} "
            f"Free space in {str(path.parent)!r}, or write to another disk."
        )
    if number in _FORBIDDEN:
        return (
            f"{start}: you may not write there ({error}). {kept} "
            f"Make {str(path.parent)!r} writable, or choose another folder."
        )
    return f"{start}: {error}. {kept} Choose a shorter name in an existing folder."
