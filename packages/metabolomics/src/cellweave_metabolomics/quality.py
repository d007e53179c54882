"""How good the pixels or cells are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.preparing import raw_values, rows_to_values

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["matrix_quality"]


def matrix_quality(adata: AnnData) -> pd.DataFrame:
    """Return total intensity, features seen and the share of the strongest, one row a cell."""
    import pandas as pd

    values = raw_values(adata, modality="metab", integers=False, lazily=True)
    totals, n_features, strongest = rows_to_values(_sums_of_cells, values, width=3).T
    share = np.divide(strongest, totals, out=np.zeros_like(totals), where=totals > 0)
    return pd.DataFrame(
        {
            "total_intensity": totals,
            "n_features": n_features.astype(np.int64),
            "share_of_strongest": share,
        },
        index=adata.obs_names,
    )


def _sums_of_cells(values: sp.csr_matrix) -> np.ndarray:
    """Return the total, the features seen and the strongest of each cell."""
    totals = np.asarray(values.sum(axis=1, dtype=np.float64)).ravel()
    strongest = np.asarray(values.max(axis=1).todense(), dtype=np.float64).ravel()
    return np.column_stack([totals, np.diff(values.indptr), strongest])
