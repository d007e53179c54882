"""How large and how odd a file may be before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cellweave.errors import UnreadableFileError

__all__ = ["DEFAULT_LIMITS", "Limits", "check_name", "refuse", "size_of"]

_LONGEST_NAME = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bound what is read from one file.

    Parameters
    ----------
    file_bytes
        Largest file of weights.
    header_bytes
        Largest header or pickle inside it, and largest table (vocabulary, medians).
    tensors
        Most tensors or members.
    """

    file_bytes: int = 64 * 2**30
    header_bytes: int = 64 * 2**20
    tensors: int = 200_000


DEFAULT_LIMITS = Limits()


def refuse(path: Path, problem: str) -> UnreadableFileError:
    """Make the one error that every damaged or hostile file ends in."""
    msg = (
        f"Cannot read {str(path)!r}: {problem}. Nothing in it was run. "
        "Download the file again from where its authors publish it."
    )
    return UnreadableFileError(msg)


def size_of(path: Path, most: int) -> int:
    """Return the size of a plain file, or refuse."""
    if not path.is_file():
        raise refuse(path, "it is no file")
    size = path.stat().st_size
    if size == 0:
        raise refuse(path, "it is empty")
    if size > most:
        raise refuse(path, f"it has {size} bytes, expected at most {most}")
    return size


def check_name(path: Path, name: object, *, member: bool = False) -> None:
    """Refuse names that step out of a folder or that no model gives its parts.

    Parameters
    ----------
    path
        The file, for the error.
    name
        Name of a tensor, a zip member or another file.
    member
        Whether single slashes are allowed.
    """
    text = name if isinstance(name, str) else ""
    odd = not text or len(text) > _LONGEST_NAME or not text.isprintable() or "\\" in text
    steps_out = ".." in text or text.startswith("/") or ":" in text[:3]
    if odd or steps_out or ("/" in text and not member):
        raise refuse(path, f"it holds the name {name!r:.80}, which no model gives")
