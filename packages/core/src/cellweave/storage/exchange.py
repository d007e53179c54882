"""Swap two folders in one step where the system can, so that no reader ever finds neither."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["exchange"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(first: Path, second: Path) -> bool:
    """Swap what two paths name; ``False`` when this system or file system cannot."""
    rename = _renameat2()
    if rename is None:
        return False
    return rename(os.fsencode(first), os.fsencode(second)) == 0


@functools.cache
def _renameat2() -> Callable[[bytes, bytes], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None

    def call(first: bytes, second: bytes) -> int:
        return int(function(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE))

    return call
