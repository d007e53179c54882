"""Read every byte of an HDF5 file in a process of its own, so that damage cannot hurt the caller.

Run as a script by :mod:`cellweave.data.untrusted` with a path and limits. It prints one line of
JSON: ``{"ok": true}`` or ``{"ok": false, "why": …}``. It knows no AnnData and imports no cellweave:
what it walks, it reads the way any reader would, so that damage shows here and not there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 32 << 20
_MOST_OBJECTS = 20_000
_DEEPEST = 64
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95")


class _RefusedError(Exception):
    """Say why a file is not read."""


def main(arguments: list[str]) -> int:
    """Limit this process, walk the file, print the verdict."""
    path, memory, seconds, most_bytes = arguments[0], *map(int, arguments[1:4])
    _limit(memory, seconds)
    try:
        _Walk(most_bytes).file(path)
        verdict: dict[str, Any] = {"ok": True}
    except _RefusedError as error:
        verdict = {"ok": False, "why": str(error)}
    except MemoryError:
        verdict = {"ok": False, "why": "it asks for more memory than its size can justify"}
    except Exception as error:  # noqa: BLE001 - any failure of a parser is the verdict we came for
        verdict = {"ok": False, "why": f"{type(error).__name__}: {error}"[:500]}
    sys.stdout.write(json.dumps(verdict))
    sys.stdout.flush()
    # Closing a damaged file may hang or crash; there is nothing left to close for.
    os._exit(0)


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the caller's clock is the only limit there
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Walk:
    """Visit everything that a reader would, with multiplicity, within limits."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self.objects = 0

    def file(self, path: str) -> None:
        import h5py

        if not h5py.is_hdf5(path):
            msg = "it is not an HDF5 file"
            raise _RefusedError(msg)
        with h5py.File(path, "r") as file:
            self.group(file, "/", (file.id.__hash__(),))

    def group(self, group: Any, name: str, above: tuple[int, ...]) -> None:
        import h5py

        self.count(name)
        self.attributes(group, name)
        if len(above) > _DEEPEST:
            msg = f"{name[:80]!r} lies deeper than {_DEEPEST} groups"
            raise _RefusedError(msg)
        for key in group:
            below = f"{name}{key}"
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                msg = f"{below!r} links to another file, {link.filename!r}"
                raise _RefusedError(msg)
            item = group[key]
            if isinstance(item, h5py.Group):
                address = hash(item.id)
                if address in above:
                    msg = f"{below!r} is a group that holds itself"
                    raise _RefusedError(msg)
                self.group(item, f"{below}/", (*above, address))
            elif isinstance(item, h5py.Dataset):
                self.dataset(item, below)
            else:
                msg = f"{below!r} is neither a group nor a dataset"
                raise _RefusedError(msg)

    def dataset(self, item: Any, name: str) -> None:
        self.count(name)
        self.attributes(item, name)
        if item.is_virtual or item.external:
            msg = f"{name!r} takes its values from another file"
            raise _RefusedError(msg)
        self.kind(item.dtype, name)
        if item.shape is None:
            return
        self.weigh(item.size * item.dtype.itemsize, name)
        for values in _pieces(item):
            self.content(values, name)

    def attributes(self, item: Any, name: str) -> None:
        for key in item.attrs:
            self.kind(item.attrs.get_id(key).dtype, f"{name}@{key}")
            self.content(item.attrs[key], f"{name}@{key}")

    def kind(self, dtype: Any, name: str) -> None:
        import h5py

        if dtype.kind == "O" and h5py.check_string_dtype(dtype) is None:
            base = h5py.check_vlen_dtype(dtype)
            reference = h5py.check_ref_dtype(dtype)
            if reference is None and (base is None or getattr(base, "kind", "O") == "O"):
                msg = f"{name!r} holds objects, which could be pickles"
                raise _RefusedError(msg)
        if dtype.kind == "V" and dtype.names is None:
            msg = f"{name!r} holds opaque bytes, which could be pickles"
            raise _RefusedError(msg)

    def content(self, values: Any, name: str) -> None:
        """Refuse text that is a pickle; take note of how much text there is."""
        if isinstance(values, bytes | str):
            listed = [values]
        elif getattr(values, "dtype", None) is not None and values.dtype.kind in "OS":
            listed = values.ravel().tolist()
            self.weigh(sum(len(v) for v in listed if isinstance(v, bytes | str)), name)
        else:
            return
        if any(isinstance(v, bytes) and v.startswith(_PICKLES) for v in listed):
            msg = f"{name!r} holds a pickle"
            raise _RefusedError(msg)

    def count(self, name: str) -> None:
        self.objects += 1
        if self.objects > _MOST_OBJECTS:
            msg = f"it holds more than {_MOST_OBJECTS} objects, at {name[:80]!r}"
            raise _RefusedError(msg)

    def weigh(self, n_bytes: int, name: str) -> None:
        self.bytes += int(n_bytes)
        if self.bytes > self.most_bytes:
            msg = (
                f"{name!r} unpacks to {self.bytes / 2**30:.1f} GiB, more than a file of its size "
                "should"
            )
            raise _RefusedError(msg)


def _pieces(item: Any) -> Any:
    if item.ndim == 0 or item.size == 0:
        yield item[()]
        return
    row = max(item.size // item.shape[0] * item.dtype.itemsize, 1)
    step = max(_BLOCK_BYTES // row, 1)
    if item.chunks:
        # Whole chunks, so that none is unpacked twice.
        step = max(step // item.chunks[0], 1) * item.chunks[0]
    for start in range(0, item.shape[0], step):
        yield item[start : start + step]


if __name__ == "__main__":
    # The script's folder must not shadow what h5py imports.
    sys.path[:] = [
        p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent.resolve()
    ]
    sys.exit(main(sys.argv[1:]))
