"""How good the pixels or cells are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.preparing import raw_values

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["matrix_quality"]


def matrix_quality(adata: AnnData) -> pd.DataFrame:
    """Return total intensity, features seen and the share of the strongest, one row a cell."""
    import pandas as pd

    values = raw_values(adata, modality="metab", integers=False)
    totals = np.asarray(values.sum(axis=1, dtype=np.float64)).ravel()
    strongest = np.asarray(values.max(axis=1).todense()).ravel()
    share = np.divide(strongest, totals, out=np.zeros_like(totals), where=totals > 0)
    return pd.DataFrame(
        {
            "total_intensity": totals,
            "n_features": np.diff(values.indptr),
            "share_of_strongest": share,
        },
        index=adata.obs_names,
    )
