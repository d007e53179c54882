"""Cells whose matrices stay in their h5ad: rows are read when they are asked for, and dropped.

Unlike :mod:`cellweave.data.lazy` this needs no Dask: whoever slices the data gets rows in memory.
Everything is checked before the first row is handed out, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.data.untrusted import check_before_reading, unreadable

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["backed_cells", "can_be_backed"]

_ENTRIES = 1 << 22  # read at a time when a matrix is checked
_DAMAGE = (OSError, KeyError, ValueError, RuntimeError, IndexError, TypeError, AttributeError)


def can_be_backed(path: Path) -> bool:
    """Tell whether the file is an h5ad of one AnnData whose matrices are all CSR."""
    import h5py

    if path.suffix.lower() != ".h5ad" or not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return "mod" not in file and {"obs", "var"} <= set(file) and _all_csr(file)
    except _DAMAGE:
        return False


@contextmanager
def backed_cells(path: Path) -> Iterator[AnnData]:
    """Yield the cells, ``X`` and ``layers`` left in the file; valid inside the block only.

    Parameters
    ----------
    path
        A file of which :func:`can_be_backed` is true.
    """
    import h5py

    check_before_reading(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        try:
            adata = _opened(file)
            for key in _matrices(file):
                _check(path, key, file[key])
        except _DAMAGE as error:
            raise unreadable(path, f"{type(error).__name__}: {error}") from error
        yield adata


def _opened(file: Any) -> AnnData:
    from anndata import AnnData
    from anndata.io import read_elem, sparse_dataset

    found = AnnData(obs=read_elem(file["obs"]), var=read_elem(file["var"]))
    for name in file.get("obsm", ()):
        found.obsm[name] = read_elem(file["obsm"][name])
    for key in _matrices(file):
        matrix = sparse_dataset(file[key])
        if key == "X":
            found.X = matrix
        else:
            found.layers[key.removeprefix("layers/")] = matrix
    return found


def _matrices(file: Any) -> list[str]:
    return [k for k in ("X",) if k in file] + [f"layers/{k}" for k in file.get("layers", ())]


def _all_csr(file: Any) -> bool:
    kinds = [file[key].attrs.get("encoding-type") for key in _matrices(file)]
    return bool(kinds) and all(kind == "csr_matrix" for kind in kinds)


def _check(path: Path, key: str, group: Any) -> None:
    """Refuse a matrix that points outside itself: it would read foreign memory."""
    n_rows, width = (int(n) for n in group.attrs["shape"])
    indptr, indices, data = group["indptr"][:], group["indices"], group["data"]
    sound = len(indptr) == n_rows + 1 and len(indices) == len(data)
    sound = sound and indptr[0] == 0 and indptr[-1] == len(indices)
    sound = sound and not bool((np.diff(indptr) < 0).any())
    for start in range(0, len(indices) if sound else 0, _ENTRIES):
        part = indices[start : start + _ENTRIES]
        sound = sound and part.min() >= 0 and part.max() < width
    if not sound:
        raise unreadable(path, f"the sparse matrix {key} points outside itself")
