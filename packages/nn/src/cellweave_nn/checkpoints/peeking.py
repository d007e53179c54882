"""Tell from the inside of a file of weights, without reading any, whose it may be.

Names of tensors stand as text in a safetensors header and in a pickle. They are looked at, the
pickle is not run; families use it to recognise files whose names say nothing (``model-9.pth``).
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import IO

from cellweave.errors import ConfigError, UnreadableFileError
from cellweave_nn.checkpoints.companions import find_companion, find_companions
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS
from cellweave_nn.checkpoints.safetensors_files import safetensors_names

__all__ = ["damaged_files", "files_with", "has_names", "one_file_with", "peek_names"]

_ENDINGS = (".pt", ".pth", ".ckpt", ".torch", ".bin", ".safetensors")
_COMMON = {"model.safetensors", "pytorch_model.bin", "model.pt", "best_model.pt"}
# The old format of torch.save: magic number, protocol, facts of the system, then the content.
_OLD_PARTS = 4
_DAMAGE = (ValueError, OSError, KeyError, IndexError, OverflowError, RuntimeError, MemoryError)


def peek_names(path: Path) -> frozenset[str]:
    """Return all text in a file of weights, names of tensors among it; nothing if unreadable."""
    try:
        if path.suffix == ".safetensors":
            return frozenset(safetensors_names(path, DEFAULT_LIMITS))
        if zipfile.is_zipfile(path):
            return _of_archive(path)
        with path.open("rb") as file:
            return frozenset().union(*(_texts(file) for _ in range(_OLD_PARTS)))
    except (*_DAMAGE, UnreadableFileError, zipfile.BadZipFile, NotImplementedError):
        return frozenset()


def has_names(path: Path, signs: Collection[str]) -> bool:
    """Tell whether each of ``signs`` ends the name of some tensor in a file of weights."""
    names = peek_names(path)
    return all(any(name.endswith(sign) for name in names) for sign in signs)


def files_with(path: Path, patterns: Sequence[str], *, signs: Collection[str]) -> list[Path]:
    """Return the files of weights with such tensors: ``path`` itself, or in the folder it is.

    Where there are none, a damaged file whose name is one of ``patterns`` is returned: reading it
    says what is wrong, where an unknown file would only be unknown.
    """
    found = [path] if path.is_file() else find_companions([path], patterns)
    found = [p for p in found if p.suffix in _ENDINGS]
    return [p for p in found if has_names(p, signs)] or damaged_files(found, patterns)


def damaged_files(found: Iterable[Path], patterns: Sequence[str]) -> list[Path]:
    """Return the files with a name of ``patterns`` that no other family has, but no content."""
    own = set(patterns) - _COMMON
    return [p for p in found if p.name in own and not peek_names(p)]


def one_file_with(
    folder: Path, patterns: Sequence[str], *, signs: Collection[str], what: str
) -> Path:
    """Return the one such file of a folder, or say which there are, or that it is missing."""
    found = files_with(folder, patterns, signs=signs)
    if len(found) > 1:
        names = " and ".join(repr(p.name) for p in found)
        msg = f"{str(folder)!r} holds {names}. Give the path of the one to read."
        raise ConfigError(msg)
    # A file under a published name is read although nothing is seen in it: its error says why.
    published = [p for p in patterns if "*" not in p]
    return found[0] if found else find_companion([folder], published, what=what)


def _of_archive(path: Path) -> frozenset[str]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            small = member.file_size <= DEFAULT_LIMITS.header_bytes
            if member.filename.endswith("/data.pkl") and small:
                with archive.open(member) as file:
                    return _texts(file)
    return frozenset()


def _texts(file: IO[bytes]) -> frozenset[str]:
    """Collect the text of one pickle."""
    return frozenset(a for _, a, _ in pickletools.genops(file) if isinstance(a, str))
