"""Damaged and hostile files of weights, for the tests of readers.

Every file is made from good tensors. A reader must end each in one of cellweave's errors, and the
canary that the executing ones try to write must not exist afterwards. Pickles are put together as
bytes, in the oldest and plainest protocol; nothing here ever reads one.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

__all__ = ["hostile_pickles", "hostile_safetensors", "hostile_tables"]


class _Runs:
    """Write the canary when unpickled."""

    def __init__(self, canary: Path, how: str) -> None:
        self._canary, self._how = str(canary), how

    def __reduce__(self) -> tuple[Any, ...]:
        if self._how == "eval":
            return eval, (f"open({self._canary!r}, 'w').close()",)
        import os

        return os.system, (f"touch {self._canary}",)


def hostile_pickles(tensors: Mapping[str, torch.Tensor], canary: Path) -> dict[str, bytes]:
    """Return what to write in place of a file of torch, by what is wrong with it."""
    good = _torch(dict(tensors))
    first = next(iter(tensors))
    floats = next(k for k, v in tensors.items() if v.is_floating_point() and v.dim() == 2)
    broken = tensors[floats].clone().index_fill_(1, torch.tensor([0]), float("nan"))
    return {
        "runs a command": _torch({**tensors, "x": _Runs(canary, "system")}),
        "runs eval": _torch({"state_dict": dict(tensors), "args": _Runs(canary, "eval")}),
        "is a bare pickle that runs": _call("posix", "system", f"touch {canary}") + b".",
        "runs, in the old format": _torch({"x": _Runs(canary, "eval")}, old=True),
        "is cut": good[: len(good) * 2 // 3],
        "is empty": b"",
        "is text": b"<html>quota exceeded</html>",
        "has a damaged pickle": _repacked(good, "data.pkl", lambda data: data[: len(data) // 2]),
        "claims more than it holds": _repacked(good, "data/0", lambda data: data[: len(data) // 2]),
        "is compressed": _repacked(good, "", lambda data: data, compress=True),
        "steps out of the archive": _repacked(good, "data/0", None),
        "names a tensor with ..": _torch({**tensors, "../../x": tensors[first]}),
        "holds NaN": _torch({**tensors, floats: broken}),
        "holds no tensors": _torch({"epoch": 3}),
        "is a list": _torch(list(tensors.values())),
        "has a vast view": _torch({**tensors, first: torch.zeros(1).expand(10**9)}),
        "has other shapes": _torch({**tensors, floats: torch.zeros(3, 5)}),
        "lacks a tensor": _torch({k: v for k, v in tensors.items() if k != floats}),
        "has a tensor too many": _torch({**tensors, "backdoor.weight": torch.zeros(2)}),
    }


def hostile_safetensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    """Return what to write in place of a safetensors file, by what is wrong with it."""
    plain = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    good = save(plain)
    first = next(iter(plain))
    floats = next(k for k, v in plain.items() if v.is_floating_point() and v.dim() == 2)
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    return {
        "claims a huge header": struct.pack("<Q", 2**62) + good[8:],
        "claims a header past its end": struct.pack("<Q", len(good)) + good[8:],
        "is cut": good[: len(good) * 2 // 3],
        "is empty": b"",
        "is text": b"version https://git-lfs.github.com/spec/v1\n",
        "has a header that is no JSON": struct.pack("<Q", 8) + b"{broken!" + b"\0" * 64,
        "has a deep header": struct.pack("<Q", 200_000) + b"[" * 200_000 + b"\0" * 64,
        "has offsets past its end": _header({"x": {**entry, "data_offsets": [0, 2**40]}}, 16),
        "has offsets that do not fit": _header({"x": {**entry, "shape": [9]}}, 16),
        "has a negative shape": _header({"x": {**entry, "shape": [-4]}}, 16),
        "names a tensor with ..": save({**plain, "../../x": torch.zeros(2)}),
        "holds NaN": save({**plain, floats: torch.full_like(plain[floats], float("nan"))}),
        "has other shapes": save({**plain, floats: torch.zeros(3, 5)}),
        "lacks a tensor": save({k: v for k, v in plain.items() if k != first}),
        "has a tensor too many": save({**plain, "backdoor.weight": torch.zeros(2)}),
    }


def hostile_tables(table: Mapping[str, Any], canary: Path) -> dict[str, bytes]:
    """Return what to write in place of a pickled dictionary, by what is wrong with it."""
    run = _call("posix", "system", f"touch {canary}")
    good = _dictionary({k: _number(v) for k, v in table.items()})
    return {
        "runs a command": _dictionary({"x": run}),
        "runs eval": _call("builtins", "eval", f"open('{canary}', 'w').close()") + b".",
        "is cut": good[: len(good) // 2],
        "is empty": b"",
        "is no dictionary": b"]S'a'\na.",
        "maps to text": _dictionary(dict.fromkeys(table, b"S'one'\n")),
        "asks for absurd memory": b"\x80\x02}r\xff\xff\xff\xff.",
    }


def _call(module: str, name: str, argument: str) -> bytes:
    """Return the instructions that import a function and call it with one text."""
    return f"c{module}\n{name}\n(V{argument}\ntR".encode()


def _number(value: float) -> bytes:
    kind = "I" if isinstance(value, int) else "F"
    return f"{kind}{value}\n".encode()


def _dictionary(items: Mapping[str, bytes]) -> bytes:
    """Return a pickled dictionary; values come as the instructions that make them."""
    return b"}" + b"".join(b"V" + k.encode() + b"\n" + v + b"s" for k, v in items.items()) + b"."


def _torch(content: Any, *, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def _header(entries: dict[str, Any], n_bytes: int) -> bytes:
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\0" * n_bytes


def _repacked(good: bytes, ending: str, change: Any, *, compress: bool = False) -> bytes:
    """Write the archive again with one member changed, or moved out when ``change`` is None."""
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(good)) as old, zipfile.ZipFile(buffer, "w", kind) as new:
        for name in old.namelist():
            data, chosen = old.read(name), bool(ending) and name.endswith(f"/{ending}")
            if chosen and change is None:
                name = f"../../{name}"  # noqa: PLW2901 - that is the attack
            elif chosen:
                data = change(data)
            new.writestr(name, data)
    return buffer.getvalue()
