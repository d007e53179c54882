"""Read fragments, and folders with a matrix of peaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import UnreadableFileError
from cellweave.linking import open_limited

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["read"]

_FRAGMENTS = (".tsv", ".tsv.gz", ".bed", ".bed.gz")
_LIMIT = 64 << 30


def read(path: Path) -> AnnData:
    """Read fragments into bins of 5 kb, or a folder of ``matrix.mtx``, ``peaks.bed``, barcodes."""
    if path.is_dir():
        return _read_folder(path)
    if path.name.lower().endswith(_FRAGMENTS) and path.exists():
        from cellweave_atac.fragments import bin_counts

        return bin_counts(path)
    msg = (
        f"{str(path)!r} is no ATAC format. Expected fragments ({', '.join(_FRAGMENTS)}), or a "
        "folder with matrix.mtx, peaks.bed and barcodes.tsv."
    )
    raise UnreadableFileError(msg)


def _read_folder(folder: Path) -> AnnData:
    import pandas as pd
    from anndata import AnnData as AnnDataClass
    from scipy.io import mmread

    matrix_at = _beside(folder, "matrix.mtx")
    peaks = _table(_beside(folder, "peaks.bed"))
    barcodes = _table(_beside(folder, "barcodes.tsv"))[0].astype(str).to_numpy()
    try:
        with open_limited(matrix_at, max_bytes=_LIMIT) as file:
            features_by_cells: Any = mmread(file)
            counts = sp.csr_matrix(features_by_cells.T, dtype=np.float32)
        var = peaks.iloc[:, :3].set_axis(["chrom", "chromStart", "chromEnd"], axis=1)
        var = var.astype({"chrom": str, "chromStart": "int64", "chromEnd": "int64"})
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, UnreadableFileError):
            raise
        msg = f"Cannot read {str(matrix_at)!r}: {error}. Expected a Matrix Market file of counts."
        raise UnreadableFileError(msg) from error
    var.index = pd.Index([f"{c}:{s}-{e}" for c, s, e in var.itertuples(index=False)])
    if counts.shape != (len(barcodes), len(var)):
        msg = (
            f"{str(folder)!r}: the matrix is {counts.shape[1]} x {counts.shape[0]}, but there are "
            f"{len(var)} peaks and {len(barcodes)} barcodes. Copy the whole folder again."
        )
        raise UnreadableFileError(msg)
    return AnnDataClass(X=counts, obs=pd.DataFrame(index=pd.Index(barcodes)), var=var)


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        with open_limited(path, max_bytes=_LIMIT) as file:
            return pd.read_csv(file, sep="\t", header=None, comment="#")
    except (ValueError, pd.errors.ParserError) as error:
        if isinstance(error, UnreadableFileError):
            raise
        msg = f"Cannot read {str(path)!r}: {error}. Expected lines separated by tabs."
        raise UnreadableFileError(msg) from error


def _beside(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    msg = (
        f"{str(folder)!r} has no {name} (or {name}.gz). Expected matrix.mtx, peaks.bed and "
        "barcodes.tsv in one folder."
    )
    raise UnreadableFileError(msg)
