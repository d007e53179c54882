"""Other technologies, and other layouts of the known ones, through spatialdata-io (extra ``io``).

Only the table of counts is asked for, so that no image or transcript need be there or be read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import (
    ConfigError,
    MissingDependencyError,
    UnreadableFileError,
    closest,
    one_of,
)

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["TECHNOLOGIES", "read_through_spatialdata"]

# What keeps each reader from looking for more than the table.
TECHNOLOGIES: Mapping[str, Mapping[str, Any]] = {
    "visium": {},
    "visium_hd": {"annotate_table_by_labels": False},
    "xenium": {
        "cells_boundaries": False,
        "nucleus_boundaries": False,
        "cells_labels": False,
        "nucleus_labels": False,
        "transcripts": False,
        "morphology_mip": False,
        "morphology_focus": False,
        "aligned_images": False,
    },
    "cosmx": {"transcripts": False},
    "merscope": {"transcripts": False, "cells_boundaries": False, "mosaic_images": False},
    "curio": {},
    "dbit": {},
    "seqfish": {},
    "stereoseq": {},
    "steinbock": {},
}


def read_through_spatialdata(
    path: str | Path, technology: str, *, table: str | None = None, **arguments: Any
) -> AnnData:
    """Read the counts and places of one folder with spatialdata-io.

    Parameters
    ----------
    path
        The output folder.
    technology
        Name of its reader there: ``"visium_hd"``, ``"stereoseq"`` …
    table
        Which table, where there are several (bin sizes); the only one otherwise.
    arguments
        Passed to the reader.
    """
    path = Path(path)
    if technology not in TECHNOLOGIES:
        msg = (
            f"Unknown technology {technology!r}.{closest(technology, TECHNOLOGIES)} "
            f"Available: {one_of(TECHNOLOGIES)}."
        )
        raise ConfigError(msg)
    if importlib.util.find_spec("spatialdata_io") is None:
        msg = (
            f"Reading {str(path)!r} as {technology} needs spatialdata-io. "
            "Run: pip install 'cellweave-spatial[io]'."
        )
        raise MissingDependencyError(msg)
    if not path.is_dir():
        msg = f"{str(path)!r} is not a folder. Give the output folder of {technology}."
        raise UnreadableFileError(msg)
    options = {**TECHNOLOGIES[technology], **arguments}
    if technology == "visium":
        options.setdefault("dataset_id", path.name)
    return _with_places(_tables(path, technology, options), table, path)


def _tables(path: Path, technology: str, options: Mapping[str, Any]) -> Mapping[str, AnnData]:
    import spatialdata_io

    try:
        data = getattr(spatialdata_io, technology)(path, **options)
    except Exception as error:  # its readers raise anything over files that do not fit
        msg = (
            f"spatialdata-io cannot read {str(path)!r} as {technology}: {type(error).__name__}: "
            f"{error}. Give the whole output folder."
        )
        raise UnreadableFileError(msg) from error
    return dict(data.tables)


def _with_places(tables: Mapping[str, AnnData], wanted: str | None, path: Path) -> AnnData:
    from cellweave_spatial.coordinates import coordinates_of

    name = wanted or next(iter(tables), "")
    if name not in tables or (wanted is None and len(tables) > 1):
        msg = f"{str(path)!r} gave the tables {one_of(tables)}. Say which one: table=…"
        raise ConfigError(msg)
    adata = tables[name].copy()
    # CosMx: what is called "spatial" there begins anew in each field of view.
    if "global" in adata.obsm:
        adata.obsm["spatial"] = np.asarray(adata.obsm["global"], dtype=np.float64)
    adata.obsm["spatial"] = coordinates_of(adata)
    return adata
