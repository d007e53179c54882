"""A compact store of sparse cells: flat files that one read call fills owned buffers from.

``indices.bin`` (u2 or u4) and ``values.bin`` (u1, u2 or f4) hold the rows one after another,
``offsets.bin`` (i8) where they start, ``names.bin`` the fixed-width cell names, ``obs/KEY.bin``
int32 codes of columns of ``obs``; ``store.json`` says all types, features and categories; the
folder's MANIFEST vouches for every byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from cellweave.errors import ConfigError, IntegrityError, UnreadableFileError, closest, one_of
from cellweave.storage import verify_or_raise

__all__ = ["CellStore", "RowBuffer"]

STORE_KIND = "cell_store"
STORE_FORMAT = 1


@dataclass(slots=True)
class RowBuffer:
    """Arrays that rows are read into; they grow to the largest window and are used again.

    Parameters
    ----------
    offsets
        Row starts within the buffer.
    indices, values
        Raw, in the types of the source.
    """

    offsets: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    def fit(self, n: int) -> None:
        """Make room for ``n`` entries."""
        if len(self.indices) < n:
            size = int(n * 1.1) + 1
            self.indices = np.empty(size, dtype=self.indices.dtype)
            self.values = np.empty(size, dtype=self.values.dtype)


class CellStore:
    """Read a folder that :func:`~cellweave.streaming.build_store` wrote.

    Parameters
    ----------
    path
        The folder.
    verify
        Compare every byte with its digest first; otherwise only sizes are compared.
    """

    def __init__(self, path: str | Path, *, verify: bool = False) -> None:
        self.path = Path(path)
        if verify:
            verify_or_raise(self.path)
        self._about = _read_about(self.path)
        self.features = np.asarray(self._about["features"], dtype=str)
        self.n_cells = int(self._about["n_cells"])
        self._check_sizes()
        self._offsets = np.memmap(self.path / "offsets.bin", dtype=np.int64, mode="r")
        self._names = np.memmap(
            self.path / "names.bin", dtype=self._about["name_type"], mode="r"
        ) if self.n_cells else np.empty(0, dtype="S1")  # fmt: skip
        self._files: dict[str, int] = {}

    @property
    def n_values(self) -> int:
        """Count stored entries."""
        return int(self._about["n_values"])

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """Give the columns of ``obs`` that the store keeps."""
        return tuple(self._about["obs"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that were opened for reading."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}

    def buffer(self) -> RowBuffer:
        """Return an empty buffer in this store's types."""
        return RowBuffer(
            offsets=np.zeros(1, dtype=np.int64),
            indices=np.empty(0, dtype=self._about["index_type"]),
            values=np.empty(0, dtype=self._about["value_type"]),
        )

    def names(self, cells: np.ndarray) -> np.ndarray:
        """Return the names of cells."""
        return np.char.decode(self._names[cells], "utf-8")

    def codes(self, key: str, cells: np.ndarray) -> np.ndarray:
        """Return the codes of one column of ``obs``; -1 for missing."""
        if key not in self._about["obs"]:
            msg = (
                f"The store {str(self.path)!r} keeps no column {key!r}."
                f"{closest(key, self.obs_keys)} It keeps: {one_of(self.obs_keys)}. "
                "Build it again with obs=[…]."
            )
            raise ConfigError(msg)
        return np.memmap(self.path / "obs" / f"{key}.bin", dtype=np.int32, mode="r")[cells]

    def categories(self, key: str) -> list[str]:
        """Return what the codes of one column mean."""
        found: list[str] = self._about["obs"][key]
        return found

    def read_blocks(self, starts: np.ndarray, stops: np.ndarray, into: RowBuffer) -> None:
        """Fill ``into`` with the rows ``starts[i]`` … ``stops[i] - 1`` of every block in turn."""
        lengths = [np.diff(self._offsets[a : b + 1]) for a, b in zip(starts, stops)]
        rows = np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int64)
        into.offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        into.fit(int(into.offsets[-1]))
        at = 0
        for start, stop in zip(starts, stops):
            first, n = int(self._offsets[start]), int(self._offsets[stop] - self._offsets[start])
            self._fill("indices.bin", into.indices, at, first, n)
            self._fill("values.bin", into.values, at, first, n)
            at += n

    def _fill(self, name: str, out: np.ndarray, at: int, first: int, n: int) -> None:
        if n == 0:
            return
        if name not in self._files:
            self._files[name] = os.open(self.path / name, os.O_RDONLY)
        view = out[at : at + n].view(np.uint8).data
        size, done = out.itemsize, 0
        while done < len(view):
            got = os.preadv(self._files[name], [view[done:]], first * size + done)
            if got == 0:
                msg = (
                    f"{str(self.path / name)!r} ends at byte {first * size + done}, where cells "
                    "should be. The store is damaged: build it again or restore a copy."
                )
                raise UnreadableFileError(msg)
            done += got

    def _check_sizes(self) -> None:
        about = self._about
        expected = {
            "offsets.bin": 8 * (self.n_cells + 1),
            "indices.bin": np.dtype(about["index_type"]).itemsize * self.n_values,
            "values.bin": np.dtype(about["value_type"]).itemsize * self.n_values,
            "names.bin": np.dtype(about["name_type"]).itemsize * self.n_cells,
            **{f"obs/{key}.bin": 4 * self.n_cells for key in about["obs"]},
        }
        problems = []
        for name, size in expected.items():
            file = self.path / name
            found = file.stat().st_size if file.exists() else None
            if found != size:
                problems.append(f"{name} has {found} bytes, expected {size}")
        if problems:
            msg = (
                f"The store {str(self.path)!r} is damaged: {'; '.join(problems)}. Build it again "
                "or restore a copy."
            )
            raise IntegrityError(msg)


def _read_about(path: Path) -> Mapping[str, Any]:
    try:
        about: dict[str, Any] = json.loads((path / "store.json").read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{str(path)!r} is no cell store: {error}. Give the folder that build_store wrote."
        raise UnreadableFileError(msg) from error
    if about.get("kind") != STORE_KIND or about.get("format") != STORE_FORMAT:
        msg = (
            f"{str(path)!r} holds a {about.get('kind')!r} of format {about.get('format')!r}. "
            f"Expected a {STORE_KIND} of format {STORE_FORMAT}: build it again."
        )
        raise UnreadableFileError(msg)
    return about
