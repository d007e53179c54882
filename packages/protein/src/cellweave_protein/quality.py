"""How good the cells are by their antibodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.preparing import raw_values
from cellweave_protein.markers import is_isotype

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["matrix_quality"]


def matrix_quality(adata: AnnData) -> pd.DataFrame:
    """Return counts, proteins seen, and the counts and share of isotype controls of each cell."""
    import pandas as pd

    counts = raw_values(adata, modality="prot")
    controls = np.array([is_isotype(str(n)) for n in adata.var_names])
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    isotype = np.asarray(counts[:, controls].sum(axis=1, dtype=np.float64)).ravel()
    share = np.divide(isotype, totals, out=np.zeros_like(totals), where=totals > 0)
    return pd.DataFrame(
        {
            "total_counts": totals,
            "n_proteins": np.diff(counts.indptr),
            "isotype_counts": isotype,
            "isotype_share": share,
        },
        index=adata.obs_names,
    )
