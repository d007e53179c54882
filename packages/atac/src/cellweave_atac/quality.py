"""How good the cells are, from the matrix alone or from the fragments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.preparing import raw_values

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["matrix_quality"]


def matrix_quality(adata: AnnData) -> pd.DataFrame:
    """Return counts, open peaks, and the share of counts in the 50 most open peaks of each cell."""
    import pandas as pd

    counts = raw_values(adata, modality="atac")
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    most_open = np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")[:50]
    top = np.asarray(counts[:, np.sort(most_open)].sum(axis=1, dtype=np.float64)).ravel()
    share = np.divide(top, totals, out=np.zeros_like(top), where=totals > 0)
    return pd.DataFrame(
        {
            "total_counts": totals,
            "n_peaks": np.diff(counts.indptr),
            "share_in_top_50_peaks": share,
        },
        index=adata.obs_names,
    )
