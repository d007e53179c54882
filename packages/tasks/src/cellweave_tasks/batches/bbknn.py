"""BBKNN (Polański et al. 2020) through scanpy: each cell's nearest in every batch.

It gives a graph, not coordinates: scored are 15 diffusion components of that graph (Coifman et al.
2005), in which cells that the graph joins lie near.
"""

from __future__ import annotations

import numpy as np

from cellweave_tasks.batches.methods import BatchCells, Corrected

__all__ = ["bbknn"]

_COMPONENTS = 15


def bbknn(cells: BatchCells) -> Corrected:
    """Return diffusion components of the batch-balanced graph."""
    import pandas as pd
    import scanpy as sc
    from anndata import AnnData

    obs = pd.DataFrame({"batch": pd.Categorical(cells.batches)})
    obs.index = obs.index.astype(str)
    adata = AnnData(np.zeros((len(obs), 1), dtype="f4"), obs=obs, obsm={"X": cells.axes})
    width = cells.axes.shape[1]
    sc.external.pp.bbknn(adata, batch_key="batch", use_rep="X", n_pcs=width, computation="cKDTree")
    size = min(_COMPONENTS, len(obs) - 2)
    sc.tl.diffmap(adata, n_comps=size, random_state=cells.seed)
    # The first component is the same for all cells; eigenvalues weigh the others.
    values = adata.obsm["X_diffmap"][:, 1:] * adata.uns["diffmap_evals"][1:]
    return Corrected(values=values, note=f"{size - 1} diffusion components of its graph")
