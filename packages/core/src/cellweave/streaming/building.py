"""Build a compact store from many files, in chunks of bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellweave.storage import atomic_folder
from cellweave.streaming.files import CellFiles
from cellweave.streaming.store import STORE_FORMAT, STORE_KIND, CellStore, RowBuffer

if TYPE_CHECKING:
    from cellweave.records import ProgressCallback

__all__ = ["build_store"]

_CHUNK = 8192


def build_store(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    features: Sequence[str] | None = None,
    layer: str | None = None,
    obs: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> CellStore:
    """Write the cells of ``paths`` to the folder ``out`` and open it.

    Values are read twice: first to find the smallest type that holds them exactly (whole numbers
    below 256 or 65 536, else float32), then to write. The folder appears only when it is whole.

    Parameters
    ----------
    paths
        ``.h5ad`` files or ``.zarr`` folders, CSR.
    out
        Folder to write.
    features, layer, obs
        As for :class:`~cellweave.streaming.CellFiles`.
    progress
        Called once a chunk.
    """
    with CellFiles(paths, features=features, layer=layer, obs=obs) as files:
        index_type = "<u2" if len(files.features) <= 1 << 16 else "<u4"
        value_type = _value_type(files, progress)
        with atomic_folder(out, kind=STORE_KIND) as place:
            n_values = _write_rows(files, place, index_type, value_type, progress)
            name_type = _write_names(files, place)
            _write_obs(files, place)
            about = {
                "kind": STORE_KIND,
                "format": STORE_FORMAT,
                "n_cells": files.n_cells,
                "n_values": n_values,
                "index_type": index_type,
                "value_type": value_type,
                "name_type": name_type,
                "features": files.features.tolist(),
                "obs": {key: files.categories(key) for key in files.obs_keys},
                "sources": [path.name for path in files.paths],
            }
            (place / "store.json").write_text(json.dumps(about, sort_keys=True))
    return CellStore(out)


def _chunks(files: CellFiles, stage: str, progress: ProgressCallback | None) -> Iterator[RowBuffer]:
    buffer = files.buffer()
    total = -(-files.n_cells // _CHUNK)
    for number in range(total):
        start = number * _CHUNK
        stop = min(start + _CHUNK, files.n_cells)
        files.read_blocks(np.array([start]), np.array([stop]), buffer)
        yield buffer
        if progress:
            from cellweave.records import Progress

            progress(Progress(stage=stage, step=number + 1, total=total))


def _value_type(files: CellFiles, progress: ProgressCallback | None) -> str:
    largest = 0.0
    for buffer in _chunks(files, "look at values", progress):
        values = buffer.values[: buffer.offsets[-1]]
        if np.any(values != np.rint(values)):
            return "<f4"
        largest = max(largest, float(values.max(initial=0)))
    if largest > np.iinfo(np.uint16).max:
        return "<f4"
    return "|u1" if largest <= np.iinfo(np.uint8).max else "<u2"


def _write_rows(
    files: CellFiles,
    place: Path,
    index_type: str,
    value_type: str,
    progress: ProgressCallback | None,
) -> int:
    done = 0
    with ExitStack() as stack:
        opened = [
            stack.enter_context((place / name).open("wb"))
            for name in ("offsets.bin", "indices.bin", "values.bin")
        ]
        offsets, indices, values = opened
        offsets.write(np.zeros(1, dtype="<i8").tobytes())
        for buffer in _chunks(files, "write cells", progress):
            n = int(buffer.offsets[-1])
            offsets.write((buffer.offsets[1:] + done).astype("<i8").tobytes())
            indices.write(buffer.indices[:n].astype(index_type).tobytes())
            values.write(buffer.values[:n].astype(value_type).tobytes())
            done += n
    return done


def _write_names(files: CellFiles, place: Path) -> str:
    """Write names as bytes of one width, in two passes over chunks of them."""
    chunks = [
        np.arange(start, min(start + _CHUNK, files.n_cells))
        for start in range(0, files.n_cells, _CHUNK)
    ]
    width = 1
    for cells in chunks:
        width = max(width, np.char.encode(files.names(cells), "utf-8").dtype.itemsize)
    with (place / "names.bin").open("wb") as file:
        for cells in chunks:
            file.write(np.char.encode(files.names(cells), "utf-8").astype(f"S{width}").tobytes())
    return f"|S{width}"


def _write_obs(files: CellFiles, place: Path) -> None:
    (place / "obs").mkdir()
    everyone = np.arange(files.n_cells)
    for key in files.obs_keys:
        (place / "obs" / f"{key}.bin").write_bytes(
            files.codes(key, everyone).astype("<i4").tobytes()
        )
