"""Read h5ad, h5mu, zarr and Cell Ranger's h5 without their matrices: cells come in blocks, later.

``X`` and ``layers`` become Dask arrays of CSR blocks, whole rows each; names, tables and ``obsm``
are read at once. A block is checked when it is read: sparse indices that point outside, or values
that were not stored in full, are an error that names the file, on a Dask cluster too.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.data.untrusted import unreadable
from cellweave.errors import MissingDependencyError
from cellweave.joins import without_pulling
from cellweave.preparing.blocks import is_lazy

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = [
    "blocks_of",
    "can_be_lazy",
    "free_memory",
    "lazy_columns",
    "read_lazily",
    "stored_bytes",
]

_BLOCK_BYTES = 32 << 20
_BYTES_PER_VALUE = 8  # a float32 and an int32, once read
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Say where a matrix of cells lies; small and picklable, so that a cluster can read it."""

    path: str
    key: str
    width: int
    sparse: bool


def blocks_of(adata: AnnData) -> Iterator[AnnData]:
    """Yield the cells of lazily read data in order, a block at a time, matrices in memory."""
    matrices = [m for m in (adata.X, *adata.layers.values()) if is_lazy(m)]
    if not matrices:
        yield adata
        return
    # The widest matrix has the shortest blocks: no other is read beyond its size.
    edges = max((np.cumsum([0, *m.chunks[0]]) for m in matrices), key=len)
    for start, stop in pairwise(edges):
        yield adata[int(start) : int(stop)].to_memory()


def read_lazily(path: Path, *, values: bool = True) -> AnnData | MuData:
    """Read an h5ad, h5mu or zarr, matrices as Dask arrays; without ``values`` there are none."""
    if values:
        _require_dask(path)
    with _Opened(str(path)) as file:
        if "mod" not in file:
            return _group(path, "", file, values=values)
        order = list(file["mod"].attrs.get("mod-order", file["mod"]))
        mods = file["mod"]
        parts = {n: _group(path, f"mod/{n}/", mods[n], values=values) for n in order}
        return _together(parts, file)


def lazy_columns(path: Path, key: str, group: Any) -> Any:
    """Return Cell Ranger's matrix of features x barcodes as cells x features, in blocks."""
    _require_dask(path)
    n_features, n_cells = (int(n) for n in group["shape"][()])
    indptr = np.asarray(group["indptr"], dtype=np.int64)
    _check_pointers(path, key, group, indptr, n_cells)
    return _array(_Rows(str(path), key, n_features, sparse=True), _row_edges(indptr))


def can_be_lazy() -> bool:
    """Tell whether Dask is installed."""
    return importlib.util.find_spec("dask") is not None


def stored_bytes(path: Path) -> int:
    """Return how many bytes the matrices in an HDF5 file or zarr folder unpack to; 0 for others."""
    try:
        with _Opened(str(path)) as file:
            return _unpacked(file)
    except Exception:  # noqa: BLE001 - another format, or damaged: its reader tells
        return 0


def free_memory() -> int:
    """Return the bytes that may still be taken: of the machine, or of the container."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(x.split()[1]) << 10 for x in lines if x.startswith("MemAvailable"))
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, StopIteration, ValueError):  # no Linux, or no limit there
        pass
    return max(free, 0)


class _Opened:
    """Open an HDF5 file or zarr folder for reading."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = None

    def __enter__(self) -> Any:
        if Path(self._path).is_dir():
            import zarr

            return zarr.open_group(self._path, mode="r")
        import h5py

        self._file = h5py.File(self._path, "r")
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _require_dask(path: Path) -> None:
    if not can_be_lazy():
        msg = (
            f"Reading {str(path)!r} in blocks needs dask. "
            "Run: pip install 'cellweave-core[out-of-core]'."
        )
        raise MissingDependencyError(msg)


def _group(path: Path, prefix: str, group: Any, *, values: bool) -> AnnData:
    """Read one AnnData; ``prefix`` is where it lies in the file."""
    from anndata import AnnData as AnnDataClass
    from anndata import io

    tables = {n: io.read_elem(group[n]) for n in ("obs", "var", "uns") if n in group}
    parts = {n: _elements(group, n) for n in ("obsm", "varm", "obsp", "varp")}
    shape = (len(tables["obs"]), len(tables["var"]))
    made = AnnDataClass(None, **tables, **parts, shape=shape)
    if not values:
        return made
    if "X" in group:
        made.X = _lazy(path, f"{prefix}X", group["X"], shape)
    for name in group.get("layers", {}):
        key = f"{prefix}layers/{name}"
        made.layers[name] = _lazy(path, key, group["layers"][name], shape)
    return made


def _together(parts: dict[str, AnnData], file: Any) -> MuData:
    from anndata import io
    from mudata import MuData as MuDataClass

    with without_pulling():
        whole = MuDataClass(parts)
    for column, values in io.read_elem(file["obs"]).items():
        whole.obs[column] = values.reindex(whole.obs_names)
    whole.uns.update(io.read_elem(file["uns"]) if "uns" in file else {})
    return whole


def _elements(group: Any, name: str) -> dict[str, Any]:
    from anndata import io

    return {key: io.read_elem(group[name][key]) for key in group.get(name, {})}


def _lazy(path: Path, key: str, item: Any, shape: tuple[int, int]) -> Any:
    """Return the Dask array of one matrix; one stored by columns is read whole."""
    from anndata import io

    kind = str(item.attrs.get("encoding-type", "array"))
    if kind == "csr_matrix":
        indptr = np.asarray(item["indptr"], dtype=np.int64)
        _check_pointers(path, key, item, indptr, shape[0])
        return _array(_Rows(str(path), key, shape[1], sparse=True), _row_edges(indptr))
    if kind == "array":
        step = max(1, _BLOCK_BYTES // (_BYTES_PER_VALUE * max(shape[1], 1)))
        edges = np.append(np.arange(0, shape[0], step), shape[0])
        return _array(_Rows(str(path), key, shape[1], sparse=False), edges)
    return sp.csr_matrix(io.read_elem(item))


def _check_pointers(path: Path, key: str, item: Any, indptr: np.ndarray, n_cells: int) -> None:
    n_values = item["indices"].shape[0]
    fits = len(indptr) == n_cells + 1 and item["data"].shape[0] == n_values
    if not fits or indptr[0] != 0 or indptr[-1] != n_values or (np.diff(indptr) < 0).any():
        raise unreadable(path, f"the sparse matrix {key} points outside itself")


def _row_edges(indptr: np.ndarray) -> np.ndarray:
    """Cut rows where about a block of values is full; no cell is cut."""
    per_block = _BLOCK_BYTES // _BYTES_PER_VALUE
    n_cells = len(indptr) - 1
    marks = np.arange(0, indptr[-1], per_block)[1:]
    inner = np.searchsorted(indptr, marks)
    return np.unique(np.concatenate([[0], np.minimum(inner, n_cells), [n_cells]]))


def _array(rows: _Rows, edges: np.ndarray) -> Any:
    da: Any = importlib.import_module("dask.array")  # it has no types
    edges = edges if len(edges) > 1 else np.array([0, 0])
    meta: Any = sp.csr_matrix(np.zeros((0, 0), dtype=np.float32))
    chunks = (tuple(int(n) for n in np.diff(edges)), (rows.width,))
    return da.map_blocks(_block, rows, chunks=chunks, dtype=np.float32, meta=meta)


def _block(rows: _Rows, block_info: Any = None) -> sp.csr_matrix:
    """Read the rows of one block; runs on whichever machine computes it."""
    start, stop = block_info[None]["array-location"][0]
    path = Path(rows.path)
    try:
        with _Opened(rows.path) as file:
            item = file[rows.key]
            if not rows.sparse:
                return sp.csr_matrix(np.asarray(item[start:stop], dtype=np.float32))
            indptr = np.asarray(item["indptr"][start : stop + 1], dtype=np.int64)
            indices = np.asarray(item["indices"][indptr[0] : indptr[-1]])
            values = np.asarray(item["data"][indptr[0] : indptr[-1]], dtype=np.float32)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise unreadable(path, f"cells {start} to {stop - 1}: {error}") from error
    if len(indices) and not 0 <= indices.min() <= indices.max() < rows.width:
        raise unreadable(path, f"the sparse matrix {rows.key} points outside itself")
    own = (indptr - indptr[0]).astype(np.int32 if len(indices) < 2**31 else np.int64)
    parts: Any = (values, indices.astype(np.int32), own)
    return sp.csr_matrix(parts, shape=(int(stop - start), rows.width))


def _unpacked(group: Any) -> int:
    """Add up X, layers and modalities; in Cell Ranger's h5, the one matrix."""
    if hasattr(group, "dtype"):
        return int(np.prod(group.shape)) * int(group.dtype.itemsize)
    total = sum(_unpacked(group[n]) for n in ("X", "data", "indices", "matrix") if n in group)
    for name in ("layers", "mod"):
        total += sum(_unpacked(item) for item in group[name].values()) if name in group else 0
    return total
