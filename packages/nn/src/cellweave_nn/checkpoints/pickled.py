"""Look into pickles without running anything, and read tables that were published as pickles.

A pickle is a program. :func:`take_stock` runs it with every name replaced by an inert stand-in, so
that what it would import, and which tensor storages it claims, are known beforehand.
:func:`read_pickled_table` reads dictionaries of plain values with four harmless names allowed.
"""

from __future__ import annotations

import io
import pickle  # only through the two closed unpicklers below
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellweave.errors import UnreadableFileError
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, Limits, refuse, size_of

__all__ = ["Stock", "read_pickled_table", "take_stock"]

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_DAMAGE = (
    pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError,
    MemoryError, OverflowError, RecursionError, UnicodeDecodeError, AssertionError, ImportError,
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Stock:
    """What a pickle names: globals as ``module.name``, and storages as (key, type, length)."""

    names: set[str] = field(default_factory=set)
    storages: list[tuple[str, str, int]] = field(default_factory=list)


def take_stock(path: Path, data: bytes) -> Stock:
    """Say what a pickle inside ``path`` would import and which storages it claims."""
    scan(path, data)
    stock = Stock()
    try:
        _Inert(io.BytesIO(data), stock).load()
    except _DAMAGE as error:
        problem = f"its pickle is damaged ({type(error).__name__}: {str(error)[:80]})"
        raise refuse(path, problem) from error
    return stock


def scan(path: Path, data: bytes) -> None:
    """Refuse a pickle that is cut, has unknown instructions, or asks for absurd memory."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _PUTS and int(argument or 0) > len(data):
                raise refuse(path, "its pickle asks for absurd memory")
    except UnreadableFileError:
        raise
    except _DAMAGE as error:
        raise refuse(path, f"its pickle is damaged ({str(error)[:80]})") from error


def read_pickled_table(path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> dict[Any, Any]:
    """Read a pickled dictionary of strings and numbers; nothing else can be in it."""
    path = Path(path)
    size_of(path, limits.header_bytes)
    data = path.read_bytes()
    scan(path, data)
    try:
        table = _Plain(io.BytesIO(data)).load()
    except _DAMAGE as error:
        raise refuse(path, f"it is no table of plain values ({str(error)[:120]})") from error
    if not isinstance(table, Mapping):
        raise refuse(path, f"it holds a {type(table).__name__}, expected a dictionary")
    return dict(table)


class _StandIn(dict):
    """Take whatever a pickle does to an object, and do nothing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget the item."""

    def append(self, item: Any) -> None:
        """Forget the item."""

    def extend(self, items: Any) -> None:
        """Forget the items."""

    def add(self, item: Any) -> None:
        """Forget the item."""


class _Inert(pickle.Unpickler):
    """Build stand-ins only."""

    def __init__(self, file: io.BytesIO, stock: Stock) -> None:
        super().__init__(file)
        self._stock = stock

    def find_class(self, module: str, name: str) -> Any:
        """Note the name and give a stand-in for it."""
        self._stock.names.add(f"{module}.{name}")
        return type(name.rpartition(".")[2] or "nameless", (_StandIn,), {})

    def persistent_load(self, claim: Any) -> Any:
        """Note a storage."""
        if not (isinstance(claim, tuple) and len(claim) >= 5 and claim[0] == "storage"):
            msg = "a reference that is no tensor storage"
            raise pickle.UnpicklingError(msg)
        kind = getattr(claim[1], "__name__", "")
        self._stock.storages.append((str(claim[2]), kind, int(claim[4])))
        return _StandIn()


class _Plain(pickle.Unpickler):
    """Build dictionaries, text and numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        """Give one of our own harmless functions, or refuse."""
        known = _PLAIN_NAMES.get(f"{module}.{name}".replace("numpy._core.", "numpy.core."))
        if known is None:
            msg = f"it wants to use {module}.{name}"
            raise pickle.UnpicklingError(msg)
        return known

    def persistent_load(self, claim: Any) -> Any:
        """Refuse references to anything outside."""
        msg = "a reference to something outside"
        raise pickle.UnpicklingError(msg)


def _number(dtype: Any, data: Any) -> int | float | bool:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iufb":
        msg = "a numpy value that is no number"
        raise pickle.UnpicklingError(msg)
    return np.frombuffer(data, dtype=dtype, count=1)[0].item()


def _dtype(code: Any, *_: Any) -> np.dtype:
    dtype = np.dtype(str(code))
    if dtype.kind not in "iufb":
        msg = f"the type {dtype}, which is no number"
        raise pickle.UnpicklingError(msg)
    return dtype


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    return str(text).encode("latin1")


_PLAIN_NAMES: Mapping[str, Any] = {
    "numpy.core.multiarray.scalar": _number,
    "numpy.dtype": _dtype,
    "_codecs.encode": _latin1,
    "collections.OrderedDict": OrderedDict,
}
