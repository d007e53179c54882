"""Read what ``torch.save`` wrote: always ``weights_only``, after the archive was checked.

torch trusts the lengths that a pickle claims for its storages, so they are compared with what the
archive really holds before torch sees the file.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle  # for its error class
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.serialization import safe_globals

from cellweave_nn.checkpoints.limits import Limits, check_name, refuse, size_of
from cellweave_nn.checkpoints.pickled import Stock, take_stock

__all__ = ["read_torch_file"]

_SIZES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
    "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
    "UntypedStorage": 1,
}  # fmt: skip
_NUMBERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?")
_DAMAGE = (
    RuntimeError, ValueError, TypeError, KeyError, EOFError, OSError, AttributeError, IndexError,
    MemoryError, OverflowError, AssertionError, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip


def read_torch_file(path: Path, limits: Limits) -> Any:
    """Return what the file holds: tensors, containers, plain settings; anything else refused."""
    size = size_of(path, limits.file_bytes)
    if zipfile.is_zipfile(path):
        stock = _checked_archive(path, size, limits)
        _refuse_names(path, stock)
    try:
        with safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise refuse(path, _said(error)) from error


def _allowed() -> list[Any]:
    """List what beside tensors may stand in a checkpoint: numbers of numpy and plain settings."""
    scalar = np.float64(0).__reduce__()[0]  # numpy 2 gives it no public name
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *{type(np.dtype(code)) for code in _NUMBERS},
        argparse.Namespace,
        collections.defaultdict,
        (pathlib.PurePosixPath, "pathlib.PosixPath"),
        (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    ]


def _checked_archive(path: Path, size: int, limits: Limits) -> Stock:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename: m for m in archive.infolist()}
            _check_members(path, size, archive.infolist(), limits)
            root = _root(path, members)
            stock = take_stock(path, archive.read(f"{root}data.pkl"))
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
        raise refuse(path, f"its archive is damaged ({error})") from error
    for key, kind, length in stock.storages:
        held = members.get(f"{root}data/{key}")
        unit = _SIZES.get(kind)
        if unit is None or held is None or not 0 <= length * unit <= held.file_size:
            real = held.file_size if held else 0
            problem = f"storage {key!r} claims {length} × {kind or 'nothing'}, the file has {real}"
            raise refuse(path, problem + " bytes of it")
    return stock


def _check_members(path: Path, size: int, members: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(members) > limits.tensors:
        raise refuse(path, f"it has {len(members)} members, expected at most {limits.tensors}")
    for member in members:
        check_name(path, member.filename, member=True)
        if member.compress_type != zipfile.ZIP_STORED:
            raise refuse(path, f"its member {member.filename!r} is compressed, torch never does so")
        too_large = member.filename.endswith(".pkl") and member.file_size > limits.header_bytes
        if too_large:
            raise refuse(path, f"its pickle has {member.file_size} bytes")
    names = {m.filename for m in members}
    if sum(m.file_size for m in members) > size or len(names) < len(members):
        raise refuse(path, "its members overlap or stand twice")


def _root(path: Path, members: dict[str, zipfile.ZipInfo]) -> str:
    roots = [n.removesuffix("data.pkl") for n in members if n.endswith("/data.pkl")]
    if any("/code/" in n or n.endswith("constants.pkl") for n in members):
        raise refuse(path, "it is a TorchScript program, not weights")
    if len(roots) != 1:
        raise refuse(path, "it is a zip archive, but not one that torch.save wrote")
    return roots[0]


def _refuse_names(path: Path, stock: Stock) -> None:
    """Refuse what is neither of torch nor allowed, before torch looks at it."""
    given = {entry[1] if isinstance(entry, tuple) else _name(entry) for entry in _allowed()}
    fixed = {"collections.OrderedDict", "_codecs.encode", "builtins.set", "builtins.bytearray"}
    fixed |= {"__builtin__.set"}  # the same, in the protocol that torch writes
    odd = sorted(n for n in stock.names - given - fixed if n.partition(".")[0] != "torch")
    if odd:
        raise refuse(path, f"it wants to use {', '.join(odd[:5])}, which weights do not need")


def _name(entry: Any) -> str:
    return f"{entry.__module__}.{entry.__qualname__}"


def _said(error: BaseException) -> str:
    """Keep the first line of torch's text, which otherwise advises to switch the guard off."""
    text = str(error)
    if "Unsupported" in text or "GLOBAL" in text:
        at = text.find("GLOBAL ")
        wanted = text[at + 7 :].split(maxsplit=1)[0] if at >= 0 else "something"
        return f"it wants to use {wanted}, which weights do not need"
    return f"it is damaged, or no file of torch ({type(error).__name__}: {text[:80]!r})"
