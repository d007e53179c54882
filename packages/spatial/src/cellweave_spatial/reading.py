"""Read the folder that a spatial technology writes, known by its files; Visium's is read here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.data.tenx import read_tenx_h5
from cellweave.errors import DataError, UnreadableFileError
from cellweave_spatial.technologies import read_cosmx, read_merscope, read_xenium

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
# Sign in the folder to the reader of its technology.
_SIGNS: Mapping[str, Callable[[Path], AnnData]] = {
    "experiment.xenium": read_xenium,
    "*_exprMat_file.csv": read_cosmx,
    "*_exprMat_file.csv.gz": read_cosmx,
    "cell_by_gene.csv": read_merscope,
}


def read(path: Path) -> AnnData:
    """Read the output folder of Visium, Xenium, CosMx or MERSCOPE, known by its files."""
    if not path.is_dir():
        msg = f"{str(path)!r} is not a folder. Give the output folder of a spatial technology."
        raise UnreadableFileError(msg)
    if (path / "spatial" / "scalefactors_json.json").exists():
        return read_visium(path)
    for sign, reader in _SIGNS.items():
        if any(path.glob(sign)):
            return reader(path)
    bins = sorted(str(p) for p in path.glob("binned_outputs/square_*"))
    if bins:
        msg = f"{str(path)!r} is Visium HD. Give the folder of one bin size: {', '.join(bins)}."
        raise UnreadableFileError(msg)
    found = sorted(p.name for p in path.iterdir())[:8]
    msg = (
        f"{str(path)!r} is of no known technology; it holds {found}. Expected "
        f"spatial/scalefactors_json.json (Visium) or one of {', '.join(_SIGNS)}; others are read "
        "by cellweave_spatial.read_through_spatialdata."
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
    places = _positions(path / "spatial")
    matrix = _one_of(path, ("filtered_feature_bc_matrix.h5", "raw_feature_bc_matrix.h5"), "matrix")
    parts = read_tenx_h5(matrix)
    if "rna" not in parts:
        msg = f"{str(matrix)!r} holds {sorted(parts)} but no genes. Give a spatial experiment."
        raise UnreadableFileError(msg)
    adata = parts["rna"]
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
