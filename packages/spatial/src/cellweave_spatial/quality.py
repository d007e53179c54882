"""How good the cells or spots are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.preparing import raw_values
from cellweave_spatial.coordinates import coordinates_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["matrix_quality"]


def matrix_quality(adata: AnnData) -> pd.DataFrame:
    """Return counts, genes seen and the distance to the nearest other cell, one row a cell."""
    import pandas as pd
    from scipy.spatial import cKDTree

    counts = raw_values(adata, modality="spatial")
    places = coordinates_of(adata)
    nearest = np.full(adata.n_obs, np.inf)
    if adata.n_obs > 1:
        nearest = np.asarray(cKDTree(places).query(places, k=2)[0])[:, 1]
    return pd.DataFrame(
        {
            "total_counts": np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(),
            "n_genes": np.diff(counts.indptr),
            "nearest_distance": nearest,
        },
        index=adata.obs_names,
    )
