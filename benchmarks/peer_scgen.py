"""scGen as pertpy has it, run in an environment of its own; called by ``bench_peers_tasks.py``.

    python peer_scgen.py TRAIN.h5ad OUT.npz CONTEXT SEED EPOCHS

TRAIN holds every cell but the perturbed ones of CONTEXT. OUT gets the mean predicted profile.
Settings are those of the authors' tutorial: 800 hidden, 100 latent, batches of 32, early stopping
after 25 epochs without gain.
"""

import sys
import warnings

import anndata as ad
import numpy as np


def main(train, out, context, seed, epochs):
    warnings.simplefilter("ignore")
    import pertpy as pt
    import scvi

    scvi.settings.seed = int(seed)
    cells = ad.read_h5ad(train)
    cells.X = np.asarray(cells.X.todense() if hasattr(cells.X, "todense") else cells.X)
    pt.tl.Scgen.setup_anndata(cells, batch_key="condition", labels_key="cell_type")
    model = pt.tl.Scgen(cells)
    model.train(
        max_epochs=int(epochs), batch_size=32, early_stopping=True, early_stopping_patience=25
    )
    own = cells[(cells.obs["cell_type"] == context) & (cells.obs["condition"] == "control")].copy()
    predicted, _ = model.predict(ctrl_key="control", stim_key="stimulated", adata_to_predict=own)
    np.savez(out, mean=np.asarray(predicted.X).mean(axis=0), epochs=len(model.history["elbo_train"])
             if "elbo_train" in (model.history or {}) else -1)  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
