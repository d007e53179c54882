"""How good the cells are by their antibodies."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.preparing import raw_values, rows_to_values
from cellweave_protein.markers import is_isotype

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["matrix_quality"]


def matrix_quality(adata: AnnData) -> pd.DataFrame:
    """Return counts, proteins seen, and the counts and share of isotype controls of each cell."""
    import pandas as pd

    counts = raw_values(adata, modality="prot", lazily=True)
    controls = np.array([is_isotype(str(n)) for n in adata.var_names])
    sums = rows_to_values(partial(_sums_of_cells, controls=controls), counts, width=3)
    totals, n_proteins, isotype = sums.T
    share = np.divide(isotype, totals, out=np.zeros_like(totals), where=totals > 0)
    return pd.DataFrame(
        {
            "total_counts": totals,
            "n_proteins": n_proteins.astype(np.int64),
            "isotype_counts": isotype,
            "isotype_share": share,
        },
        index=adata.obs_names,
    )


def _sums_of_cells(counts: sp.csr_matrix, *, controls: np.ndarray) -> np.ndarray:
    """Return the total, the proteins seen and the total of the controls of each cell."""
    exact = counts.astype(np.float64)
    both = [np.asarray(m.sum(axis=1)).ravel() for m in (exact, exact[:, controls])]
    return np.column_stack([both[0], np.diff(counts.indptr), both[1]])
