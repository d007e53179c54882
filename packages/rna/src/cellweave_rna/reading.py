"""Files that hold RNA counts: 10x h5 and mtx through the doorway, loom by our own conversion.

Loom to AnnData, as done here: ``/matrix`` (genes × cells) is read in blocks of cells and turned;
``/row_attrs`` become ``var`` (index: ``Gene``, else ``Accession``, else the row number),
``/col_attrs`` become ``obs`` (index: ``CellID``, else ``obs_names``, else the column number);
``/layers`` become ``layers``; attributes that are not one value a row are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, UnreadableFileError, one_of

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    from anndata import AnnData

__all__ = ["read_loom", "read_rna"]

_BLOCK = 512
_GENE_NAMES = ("Gene", "var_names", "gene_names", "Accession")
_CELL_NAMES = ("CellID", "obs_names", "cell_names")


def read_rna(path: Path) -> AnnData:
    """Read one file or folder of RNA counts into an AnnData of raw values."""
    if path.suffix == ".loom":
        return read_loom(path)
    from cellweave.data import read

    # The doorway splits 10x files by feature type; modality packages are not asked again.
    found = read(path)
    if "rna" not in found.mod:
        msg = (
            f"{str(path)!r} holds {one_of(found.mod)} but no RNA. Expected gene expression. "
            "Read it with cellweave.read, which splits a file by feature type."
        )
        raise DataError(msg)
    return found.mod["rna"]


def read_loom(path: str | Path) -> AnnData:
    """Convert a loom file; memory is the sparse result and one block of cells."""
    import h5py
    from anndata import AnnData as AnnDataClass

    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            _check_loom(file, path)
            obs = _attributes(file["col_attrs"], file["matrix"].shape[1], _CELL_NAMES)
            var = _attributes(file["row_attrs"], file["matrix"].shape[0], _GENE_NAMES)
            made = AnnDataClass(_turned(file["matrix"]), obs=obs, var=var)
            for name, layer in file.get("layers", {}).items():
                made.layers[name] = _turned(layer)
    except OSError as error:
        msg = f"Cannot read {str(path)!r} as loom: {error}. Expected an HDF5 file with '/matrix'."
        raise UnreadableFileError(msg) from error
    return made


def _check_loom(file: h5py.File, path: Path) -> None:
    missing = [name for name in ("matrix", "row_attrs", "col_attrs") if name not in file]
    if missing:
        msg = (
            f"{str(path)!r} is no loom file: it lacks {', '.join(missing)}. "
            f"It holds: {one_of(file)}. Convert it to h5ad with the program that wrote it."
        )
        raise UnreadableFileError(msg)


def _turned(matrix: Any) -> sp.csr_matrix:
    n_cells = matrix.shape[1]
    blocks = [
        sp.csr_matrix(np.asarray(matrix[:, start : start + _BLOCK]).T, dtype=np.float32)
        for start in range(0, n_cells, _BLOCK)
    ]
    if not blocks:
        blocks = [sp.csr_matrix(np.zeros((0, matrix.shape[0]), dtype=np.float32))]
    return sp.csr_matrix(sp.vstack(blocks, format="csr"))


def _attributes(group: Any, n: int, names: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(index=pd.RangeIndex(n).astype(str))
    for key in group:
        values = np.asarray(group[key])
        if values.shape != (n,):
            continue
        if values.dtype.kind in "SO":
            values = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values])
        table[key] = values
    for name in names:
        if name in table:
            table.index = pd.Index(table.pop(name).astype(str), name=None)
            break
    return table
