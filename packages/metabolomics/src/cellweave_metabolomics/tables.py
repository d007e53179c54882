"""Read tables of features: cells in rows, or features in rows with a column of m/z."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import UnreadableFileError
from cellweave.linking import read_delimited
from cellweave_metabolomics.masses import mass_column

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["read_feature_table"]

_PLACES = (("x", "y"), ("X", "Y"), ("x_coord", "y_coord"), ("col", "row"))
_ABOUT_FEATURES = {"name", "formula", "adduct", "rt", "retention_time", "hmdb", "kegg", "id"}


def read_feature_table(path: str | Path) -> AnnData:
    """Read a csv or tsv of intensities (also gzipped) into cells × features.

    With a column ``mz`` (or ``m/z``), rows are features and the numeric columns are cells.
    Otherwise rows are cells, the first column names them unless it is numeric, columns ``x`` and
    ``y`` are their places, and the others are features (m/z or names of metabolites).
    """
    frame = read_delimited(path)
    if frame.empty:
        msg = f"The table {str(path)!r} is empty. Expected intensities with a header."
        raise UnreadableFileError(msg)
    return _features_in_rows(frame, path) if mass_column(frame) else _cells_in_rows(frame, path)


def _features_in_rows(frame: pd.DataFrame, path: str | Path) -> AnnData:
    import pandas as pd
    from anndata import AnnData as AnnDataClass

    mass = str(mass_column(frame))
    about = [c for c in frame.columns if c == mass or c.lower() in _ABOUT_FEATURES]
    cells = [c for c in frame.columns if c not in about]
    values = _numbers(frame[cells], path)
    var = frame[about].rename(columns={mass: "mz"})
    var["mz"] = pd.to_numeric(var["mz"], errors="coerce")
    var.index = pd.Index([f"mz-{m:.6f}" for m in var["mz"]])
    obs = pd.DataFrame(index=pd.Index(cells, dtype="object"))
    adata = AnnDataClass(X=sp.csr_matrix(values.T), obs=obs, var=var)
    adata.var_names_make_unique()
    return adata


def _cells_in_rows(frame: pd.DataFrame, path: str | Path) -> AnnData:
    import pandas as pd
    from anndata import AnnData as AnnDataClass

    first = pd.to_numeric(frame.iloc[:, 0], errors="coerce")
    place = next((p for p in _PLACES if set(p) <= set(frame.columns)), None)
    names = [str(i) for i in range(len(frame))]
    if first.isna().any():
        names, frame = frame.iloc[:, 0].tolist(), frame.iloc[:, 1:]
    places = _numbers(frame[list(place)], path) if place else None
    if place:
        frame = frame.drop(columns=list(place))
    values = _numbers(frame, path)
    adata = AnnDataClass(
        X=sp.csr_matrix(values),
        obs=pd.DataFrame(index=pd.Index(names, dtype="object")),
        var=pd.DataFrame(index=pd.Index(frame.columns, dtype="object")),
    )
    if places is not None:
        adata.obsm["spatial"] = places.astype(np.float64)
    return adata


def _numbers(frame: pd.DataFrame, path: str | Path) -> np.ndarray:
    import pandas as pd

    numbers = frame.apply(pd.to_numeric, errors="coerce")
    numbers = numbers.mask(frame == "", 0.0)
    wrong = np.argwhere(numbers.isna().to_numpy())
    if len(wrong):
        row, column = wrong[0]
        value = frame.iloc[row, column]
        msg = (
            f"Line {row + 2}, column {frame.columns[column]!r} of {str(path)!r} holds {value!r}. "
            f"Expected a number ({len(wrong)} such entries). Name columns of text as formula, "
            "adduct, rt, hmdb, kegg, id or name, or drop them."
        )
        raise UnreadableFileError(msg)
    return numbers.to_numpy(dtype=np.float32)
