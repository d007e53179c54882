"""Where cells lie in the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["coordinates_of", "libraries_of"]

_COLUMNS = (
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("CenterX_global_px", "CenterY_global_px"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("x", "y"),
    ("array_col", "array_row"),
)


def coordinates_of(adata: AnnData) -> np.ndarray:
    """Return ``(n_cells, 2 or 3)`` float64 coordinates: ``obsm["spatial"]``, else ``obs`` columns.

    Raises
    ------
    DataError
        When there are none, or some are not finite.
    """
    if "spatial" in adata.obsm:
        values = np.asarray(adata.obsm["spatial"], dtype=np.float64)
        place = 'obsm["spatial"]'
    else:
        columns = next((c for c in _COLUMNS if set(c) <= set(adata.obs.columns)), None)
        if columns is None:
            msg = (
                "There are no coordinates: no obsm['spatial'], and no obs columns such as "
                f"{', '.join('/'.join(c) for c in _COLUMNS[:3])}. Put an (n_cells, 2) array into "
                "adata.obsm['spatial']."
            )
            raise DataError(msg)
        values = adata.obs[list(columns)].to_numpy(dtype=np.float64)
        place = f"obs[{list(columns)}]"
    return _checked(values, place)


def libraries_of(adata: AnnData, key: str | None) -> np.ndarray:
    """Return integer codes of the slides; one slide for all when no key is given."""
    import pandas as pd

    if key is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    if key not in adata.obs.columns:
        msg = f"obs has no column {key!r} that tells slides apart. It has: {list(adata.obs)[:10]}."
        raise DataError(msg)
    codes, _ = pd.factorize(adata.obs[key], sort=True)
    if (codes < 0).any():
        msg = f"obs[{key!r}] is missing for {int((codes < 0).sum())} cells. Name their slide."
        raise DataError(msg)
    return codes.astype(np.int64)


def _checked(values: np.ndarray, place: str) -> np.ndarray:
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        msg = f"{place} has shape {values.shape}. Expected (n_cells, 2) or (n_cells, 3)."
        raise DataError(msg)
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        msg = (
            f"{place}[{first}] = {values[first].tolist()} is not finite ({int(wrong.sum())} such "
            "cells). Drop cells without a place: adata[np.isfinite(xy).all(1)]."
        )
        raise DataError(msg)
    return values
