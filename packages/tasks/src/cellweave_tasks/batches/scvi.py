"""scVI (Lopez et al. 2018) through scvi-tools: a variational autoencoder of counts given the batch.

Kedzierska's baseline: variable genes, the package's sizes and number of epochs.
"""

from __future__ import annotations

from cellweave_tasks.batches.methods import BatchCells, Corrected

__all__ = ["scvi", "trained_latent"]


def scvi(cells: BatchCells) -> Corrected:
    """Return the latent means."""
    from scvi.model import SCVI

    return trained_latent(SCVI, cells, cells.counts)


def trained_latent(model_class: object, cells: BatchCells, values: object) -> Corrected:
    """Set up, train and read a model of scvi-tools on ``values``, genes of ``cells``."""
    import logging
    import warnings
    from typing import Any

    import pandas as pd
    import scvi as package
    from anndata import AnnData

    make: Any = model_class
    obs = pd.DataFrame({"batch": pd.Categorical(cells.batches)})
    obs.index = obs.index.astype(str)
    adata = AnnData(values, obs=obs)
    logging.disable(logging.WARNING)  # put back by the caller, with the rest of global state
    package.settings.seed = cells.seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make.setup_anndata(adata, batch_key="batch")
        model = make(adata)
        model.train(accelerator="cpu", enable_progress_bar=False, logger=False)
        latent = model.get_latent_representation()
    return Corrected(values=latent, note=f"scvi-tools {package.__version__}, its defaults")
