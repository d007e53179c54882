"""Counts and places of Xenium, CosMx and MERSCOPE, whose tables are plain CSV, parquet and h5.

Segmentation masks, transcripts and images are left to spatialdata-io
(:mod:`cellweave_spatial.through_spatialdata`). Cell names are those it gives. Control probes (blank
and negative ones) are no genes: their sum stands in ``obs["control_counts"]``.

=========  ================================================  ======================================
folder of  counts                                            places (``obsm["spatial"]``)
=========  ================================================  ======================================
Xenium     ``cell_feature_matrix.h5``                        ``cells.parquet`` or ``.csv.gz``: µm
CosMx      ``*_exprMat_file.csv`` (``.gz``)                  ``*_metadata_file.csv``: global pixels
MERSCOPE   ``cell_by_gene.csv``                              ``cell_metadata.csv``: µm
=========  ================================================  ======================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import CellweaveError, UnreadableFileError
from cellweave.linking import open_limited

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["read_cosmx", "read_merscope", "read_xenium"]

_ROWS = 20_000
_COSMX_KEYS = ["fov", "cell_ID"]
# Probes that bind no transcript, by any of the names that the three companies give them.
_CONTROL = re.compile(
    r"^(blank|negprb|negative|neg_?control|systemcontrol|falsecode|unassigned|deprecated)", re.I
)


def read_xenium(path: Path) -> AnnData:
    """Read counts and centroids of a Xenium output folder; other than gene probes are summed up."""
    from cellweave.data.tenx import read_tenx_h5

    parts = read_tenx_h5(one_of_files(path, ("cell_feature_matrix.h5",)))
    if "rna" not in parts:
        msg = f"{str(path)!r} holds no gene probes but {sorted(parts)}. Give the output folder."
        raise UnreadableFileError(msg)
    cells = _cells_of_xenium(one_of_files(path, ("cells.parquet", "cells.csv.gz", "cells.csv")))
    adata = parts.pop("rna")
    controls = sum(np.asarray(p.X.sum(axis=1)).ravel() for p in parts.values())
    controls = np.zeros(adata.n_obs) + controls
    return _placed(adata, cells, controls, ("x_centroid", "y_centroid"), path)


def read_cosmx(path: Path) -> AnnData:
    """Read counts and global places of a CosMx folder; counts outside of cells are left out."""
    counts = _one_matching(path, ("*_exprMat_file.csv", "*_exprMat_file.csv.gz"))
    table = _one_matching(path, ("*_metadata_file.csv", "*_metadata_file.csv.gz"))
    cells = _read_table(table, required=[*_COSMX_KEYS, "CenterX_global_px", "CenterY_global_px"])
    cells.index = _cosmx_names(cells)
    adata, controls = _counted(counts, _COSMX_KEYS, _cosmx_names)
    # Cell 0 of each field of view gathers what lies in no cell.
    inside = adata.obs_names.isin(cells.index)
    places = ("CenterX_global_px", "CenterY_global_px")
    return _placed(adata[inside].copy(), cells, controls[inside], places, path)


def read_merscope(path: Path) -> AnnData:
    """Read counts and centres of a MERSCOPE (MERFISH) folder."""
    cells = _read_table(one_of_files(path, ("cell_metadata.csv",)), required=["center_x"])
    cells = cells.set_index(cells.columns[0])
    cells.index = cells.index.astype(str)
    counts = one_of_files(path, ("cell_by_gene.csv",))
    adata, controls = _counted(counts, None, lambda keys: keys.iloc[:, 0].astype(str))
    return _placed(adata, cells, controls, ("center_x", "center_y"), path)


def one_of_files(folder: Path, names: tuple[str, ...]) -> Path:
    """Return the first of the files that is there."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    msg = f"{str(folder)!r} lacks {' or '.join(names)}. Copy the whole output folder."
    raise UnreadableFileError(msg)


def _one_matching(folder: Path, patterns: tuple[str, ...]) -> Path:
    found = sorted(p for pattern in patterns for p in folder.glob(pattern))
    if len(found) != 1:
        msg = (
            f"{str(folder)!r} holds {len(found)} files like {' or '.join(patterns)}. Expected one: "
            "give each slide a folder of its own."
        )
        raise UnreadableFileError(msg)
    return found[0]


def _cosmx_names(keys: pd.DataFrame) -> pd.Series:
    return keys["cell_ID"].astype(str) + "_" + keys["fov"].astype(str)


def _cells_of_xenium(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix != ".parquet":
        cells = _read_table(path, required=["cell_id", "x_centroid", "y_centroid"])
    else:
        try:
            cells = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        _require(path, cells, ["cell_id", "x_centroid", "y_centroid"])
    names = [c.decode() if isinstance(c, bytes) else str(c) for c in cells.pop("cell_id")]
    return cells.set_index(pd.Index(names))


def _read_table(path: Path, *, required: list[str]) -> pd.DataFrame:
    import pandas as pd

    try:
        with open_limited(path) as file:
            table = pd.read_csv(file)
    except CellweaveError:
        raise
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    _require(path, table, required)
    return table


def _require(path: Path, table: pd.DataFrame, columns: list[str]) -> None:
    missing = [c for c in columns if c not in table]
    if missing:
        msg = f"{str(path)!r} lacks the columns {missing}. It has: {list(map(str, table))[:12]}."
        raise UnreadableFileError(msg)


def _counted(
    path: Path, keys: list[str] | None, name: Callable[[pd.DataFrame], pd.Series]
) -> tuple[AnnData, np.ndarray]:
    """Read a table of cells x probes in blocks of rows; return genes, and the sum of controls.

    ``keys`` are the columns that name a cell; the first one when they are not given.
    """
    import pandas as pd
    from anndata import AnnData as AnnDataClass

    blocks, names, controls = [], [], []
    probes: list[str] = []
    try:
        with open_limited(path) as file:
            for table in pd.read_csv(file, chunksize=_ROWS):
                own = keys or [str(table.columns[0])]
                _require(path, table, own)
                names.append(name(table[own]))
                values = table.drop(columns=[*own, *({"cell"} & set(table))])
                is_control = np.array([bool(_CONTROL.match(str(c))) for c in values])
                matrix = values.to_numpy(dtype=np.float32)
                probes = [str(c) for c in values.columns[~is_control]]
                blocks.append(sp.csr_matrix(matrix[:, ~is_control]))
                controls.append(matrix[:, is_control].sum(axis=1, dtype=np.float64))
    except CellweaveError:
        raise
    except (ValueError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error
    if not blocks or not probes:
        raise _unreadable(path, "it holds no counts")
    obs = pd.DataFrame(index=pd.Index(pd.concat(names).to_numpy(dtype=object)))
    adata = AnnDataClass(sp.vstack(blocks, format="csr"), obs=obs)
    adata.var_names = probes
    return adata, np.concatenate(controls)


def _placed(
    adata: AnnData,
    cells: pd.DataFrame,
    controls: np.ndarray,
    columns: tuple[str, str],
    path: Path,
) -> AnnData:
    """Put what is known of each cell beside its counts."""
    _require(path, cells, list(columns))
    missing = adata.obs_names.difference(cells.index)
    if len(missing) or not adata.n_obs or not cells.index.is_unique:
        example = f", e.g. {missing[0]!r}" if len(missing) else ""
        msg = (
            f"{len(missing)} of {adata.n_obs} cells of {str(path)!r} have no place{example}, and "
            f"{int(cells.index.duplicated().sum())} places bear the name of another. The files do "
            "not belong together, or one is cut short: copy the folder again."
        )
        raise UnreadableFileError(msg)
    cells = cells.loc[adata.obs_names]
    adata.obs = adata.obs.join(cells.drop(columns=list(columns)))
    adata.obs["control_counts"] = controls
    try:
        adata.obsm["spatial"] = cells[list(columns)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise _unreadable(path, error) from error
    return adata


def _unreadable(path: Path, why: object) -> UnreadableFileError:
    text = " ".join(str(why).split())[:300]
    msg = f"Cannot read {str(path)!r}: {text}. Fetch the file again."
    return UnreadableFileError(msg)
