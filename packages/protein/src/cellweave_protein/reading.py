"""Read tables of antibody counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import UnreadableFileError
from cellweave.linking import read_delimited
from cellweave_protein.markers import match_markers

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["read"]

_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")


def read(path: Path) -> AnnData:
    """Read a csv or tsv of counts with names in the first row and column.

    Cells stand in rows or in columns: the side on which more names are markers is the antibodies'.
    """
    import pandas as pd
    from anndata import AnnData as AnnDataClass

    if not (path.is_file() and path.name.lower().endswith(_SUFFIXES)):
        msg = f"{str(path)!r} is no table of antibodies. Expected one of {', '.join(_SUFFIXES)}."
        raise UnreadableFileError(msg)
    frame = read_delimited(path)
    if frame.shape[0] == 0 or frame.shape[1] < 2:
        msg = f"{str(path)!r} has {frame.shape[0]} rows, {frame.shape[1]} columns. Expected counts."
        raise UnreadableFileError(msg)
    rows, columns = frame.iloc[:, 0].astype(str).tolist(), list(frame.columns[1:])
    values = _numbers(frame.iloc[:, 1:], path)
    known_rows, known_columns = _share_known(rows), _share_known(columns)
    if max(known_rows, known_columns) < 0.3:
        msg = (
            f"{str(path)!r}: neither rows ({rows[0]!r} …) nor columns ({columns[0]!r} …) are names "
            "of antibodies. Make an AnnData of it yourself if the names are special."
        )
        raise UnreadableFileError(msg)
    if known_rows > known_columns:
        values, rows, columns = values.T, columns, rows
    adata = AnnDataClass(
        X=sp.csr_matrix(values),
        obs=pd.DataFrame(index=pd.Index(rows, dtype="object")),
        var=pd.DataFrame(index=pd.Index(columns, dtype="object")),
    )
    adata.var_names_make_unique()
    return adata


def _share_known(names: list[str]) -> float:
    some = names[:500]
    report = match_markers(some)
    return float(((report["marker"] != "") | report["reason"].str.contains("tag|isotype")).mean())


def _numbers(frame: pd.DataFrame, path: Path) -> np.ndarray:
    import pandas as pd

    numbers = frame.apply(pd.to_numeric, errors="coerce")
    wrong = np.argwhere(numbers.isna().to_numpy())
    if len(wrong):
        row, column = wrong[0]
        msg = (
            f"Line {row + 2}, column {frame.columns[column]!r} of {str(path)!r} holds "
            f"{frame.iloc[row, column]!r} ({len(wrong)} such entries). Expected numbers."
        )
        raise UnreadableFileError(msg)
    return numbers.to_numpy(dtype=np.float32)
