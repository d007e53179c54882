"""Scanorama (Hie, Bryson and Berger 2019) through scanpy, on the axes.

Mutual nearest neighbours of every two batches; batches are joined from the most alike on, each
cell moved by the Gaussian-weighted gaps of the matches near it.
"""

from __future__ import annotations

import numpy as np

from cellweave_tasks.batches.methods import BatchCells, Corrected

__all__ = ["scanorama"]


def scanorama(cells: BatchCells) -> Corrected:
    """Return the joined axes, in input order."""
    import pandas as pd
    import scanpy as sc
    from anndata import AnnData

    order = np.argsort(cells.batches, kind="stable")  # it wants each batch in one piece
    obs = pd.DataFrame({"batch": cells.batches[order].astype(object)})
    obs.index = obs.index.astype(str)
    axes = np.asarray(cells.axes[order], dtype=np.float64)
    adata = AnnData(np.zeros((len(obs), 1), dtype="f4"), obs=obs, obsm={"X": axes})
    sc.external.pp.scanorama_integrate(
        adata, "batch", basis="X", adjusted_basis="joined", approx=False, verbose=0
    )
    values = np.empty_like(adata.obsm["joined"])
    values[order] = adata.obsm["joined"]
    return Corrected(values=values)
