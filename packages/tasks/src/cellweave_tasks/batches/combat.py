"""ComBat (Johnson et al. 2007) through scanpy, on the variable genes; principal axes after it.

Location and scale of each gene in each batch, shrunk over genes by empirical Bayes, are taken out.
"""

from __future__ import annotations

from dataclasses import replace

from cellweave_tasks.batches.methods import BatchCells, Corrected
from cellweave_tasks.batches.plain import principal_axes

__all__ = ["combat"]


def combat(cells: BatchCells) -> Corrected:
    """Return principal axes of the corrected genes."""
    import pandas as pd
    import scanpy as sc
    from anndata import AnnData

    obs = pd.DataFrame({"batch": pd.Categorical(cells.batches)})
    obs.index = obs.index.astype(str)
    # In double precision and with each gene varying: the empirical Bayes divides by its variance.
    varying = cells.logs.std(axis=0) > 0
    adata = AnnData(cells.logs[:, varying].astype("f8"), obs=obs)
    corrected = sc.pp.combat(adata, key="batch", inplace=False)
    return principal_axes(replace(cells, logs=corrected.astype("f4")))
