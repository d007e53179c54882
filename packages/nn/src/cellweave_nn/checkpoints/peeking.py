"""Tell from the inside of a file of weights, without reading any, whose it may be.

Names of tensors stand as text in a safetensors header and in a pickle. They are looked at, the
pickle is not run; families use it to recognise files whose names say nothing (``model-9.pth``).
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO

from cellweave.errors import UnreadableFileError
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS
from cellweave_nn.checkpoints.safetensors_files import safetensors_names

__all__ = ["peek_names"]

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
