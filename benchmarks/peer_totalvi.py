"""totalVI of scvi-tools, run in an environment of its own; called by ``bench_peers_tasks.py``.

    python peer_totalvi.py CELLS.h5ad OUT.npz SEED EPOCHS

CELLS holds raw RNA counts in X, raw proteins in obsm["protein"] with zeros where obs["side"] is
"test": totalVI takes the proteins of a batch without any as missing, the authors' own way of
predicting them. OUT gets expected protein counts of every cell, with and without background.
"""

import sys
import warnings

import anndata as ad
import numpy as np


def main(path, out, seed, epochs):
    warnings.simplefilter("ignore")
    import scvi

    scvi.settings.seed = int(seed)
    cells = ad.read_h5ad(path)
    scvi.model.TOTALVI.setup_anndata(cells, batch_key="side", protein_expression_obsm_key="protein")
    model = scvi.model.TOTALVI(cells, latent_distribution="normal", n_layers_decoder=2)
    model.train(max_epochs=int(epochs) or None, accelerator="cpu", enable_progress_bar=False)
    found = {}
    for name, background in (("foreground", False), ("with_background", True)):
        _, protein = model.get_normalized_expression(
            cells,
            transform_batch="train",
            n_samples=25,
            return_mean=True,
            include_protein_background=background,
            gene_list=[],
        )
        found[name] = protein.to_numpy()
    np.savez(out, **found, epochs=len(model.history["elbo_train"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
