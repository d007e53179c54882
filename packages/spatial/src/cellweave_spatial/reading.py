"""Read what a spatial technology writes: Visium here, the others through spatialdata-io."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError, MissingDependencyError, UnreadableFileError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["read", "read_visium"]

_LARGEST_JSON = 1 << 20
_LARGEST_IMAGE = 400_000_000
_POSITIONS = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")
_POSITION_COLUMNS = [
    "barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres",
]  # fmt: skip
# Sign in the folder to the reader of spatialdata-io.
_SIGNS = {
    "experiment.xenium": "xenium",
    "*_exprMat_file.csv*": "cosmx",
    "cell_by_gene.csv": "merscope",
}


def read(path: Path) -> AnnData:
    """Read the output folder of Visium, Xenium, CosMx or MERSCOPE, known by its files."""
    if not path.is_dir():
        msg = f"{str(path)!r} is not a folder. Give the output folder of a spatial technology."
        raise UnreadableFileError(msg)
    if (path / "spatial" / "scalefactors_json.json").exists():
        return read_visium(path)
    for sign, technology in _SIGNS.items():
        if any(path.glob(sign)):
            return _through_spatialdata(path, technology)
    found = sorted(p.name for p in path.iterdir())[:8]
    msg = (
        f"{str(path)!r} is of no known technology; it holds {found}. Expected "
        f"spatial/scalefactors_json.json (Visium) or one of {', '.join(_SIGNS)}."
    )
    raise UnreadableFileError(msg)


def read_visium(path: Path, *, in_tissue_only: bool = True) -> AnnData:
    """Read a Space Ranger folder: counts, places in pixels, scale factors and images.

    Parameters
    ----------
    path
        Folder with ``filtered_feature_bc_matrix.h5`` (or ``raw_…``) and ``spatial/``.
    in_tissue_only
        Drop spots beside the tissue.
    """
    import scanpy as sc

    places = _positions(path / "spatial")
    matrix = _one_of(path, ("filtered_feature_bc_matrix.h5", "raw_feature_bc_matrix.h5"), "matrix")
    try:
        adata = sc.read_10x_h5(matrix)
    except (OSError, KeyError, ValueError) as error:
        msg = f"Cannot read {str(matrix)!r}: {error}. Fetch the file again."
        raise UnreadableFileError(msg) from error
    adata.var_names_make_unique()
    missing = adata.obs_names.difference(places.index)
    if len(missing):
        msg = f"{len(missing)} barcodes have no position, e.g. {missing[0]!r}, in {str(path)!r}."
        raise DataError(msg)
    places = places.loc[adata.obs_names]
    adata.obs = adata.obs.join(places[["in_tissue", "array_row", "array_col"]])
    adata.obsm["spatial"] = places[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(float)
    adata.uns["spatial"] = {path.name or "slide": _slide(path / "spatial")}
    return adata[adata.obs["in_tissue"] == 1].copy() if in_tissue_only else adata


def _one_of(folder: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    msg = f"{str(folder)!r} has no {what}. Expected one of {', '.join(names)}."
    raise UnreadableFileError(msg)


def _positions(folder: Path) -> pd.DataFrame:
    import pandas as pd

    path = _one_of(folder, _POSITIONS, "table of positions")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            has_header = path.name == "tissue_positions.csv"
            frame = pd.read_csv(path, header=0 if has_header else None)
        frame = frame.set_axis(_POSITION_COLUMNS, axis=1).set_index("barcode")
        return frame.astype(np.float64)
    except (ValueError, OSError) as error:
        msg = f"Cannot read {str(path)!r}: {error}. Expected the columns {_POSITION_COLUMNS}."
        raise UnreadableFileError(msg) from error


def _slide(folder: Path) -> dict[str, Any]:
    images = {}
    for resolution in ("hires", "lowres"):
        path = folder / f"tissue_{resolution}_image.png"
        if path.exists():
            images[resolution] = _image(path)
    return {"images": images, "scalefactors": _scale_factors(folder / "scalefactors_json.json")}


def _scale_factors(path: Path) -> dict[str, float]:
    if path.stat().st_size > _LARGEST_JSON:
        msg = f"{str(path)!r} is larger than {_LARGEST_JSON} bytes; it holds a few numbers only."
        raise UnreadableFileError(msg)
    try:
        return {str(k): float(v) for k, v in json.loads(path.read_bytes()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"Cannot read {str(path)!r}: {error}. Expected JSON numbers by name."
        raise UnreadableFileError(msg) from error


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > _LARGEST_IMAGE:
                msg = f"{str(path)!r} has {opened.width} x {opened.height} pixels: too many."
                raise UnreadableFileError(msg)
            return np.asarray(opened.convert("RGB"))
    except UnreadableFileError:
        raise
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        msg = f"Cannot read the image {str(path)!r}: {error}. Fetch the file again."
        raise UnreadableFileError(msg) from error


def _through_spatialdata(path: Path, technology: str) -> AnnData:
    if importlib.util.find_spec("spatialdata_io") is None:
        msg = (
            f"{str(path)!r} is a {technology} folder; reading it needs spatialdata-io. "
            "Run: pip install 'cellweave-spatial[io]'."
        )
        raise MissingDependencyError(msg)
    import spatialdata_io

    data = getattr(spatialdata_io, technology)(path)
    tables = list(data.tables.values())
    if not tables:
        msg = f"{str(path)!r} gave no table of counts. Give the whole output folder."
        raise UnreadableFileError(msg)
    from cellweave_spatial.coordinates import coordinates_of

    adata = tables[0].copy()
    adata.obsm["spatial"] = coordinates_of(adata)
    return adata
