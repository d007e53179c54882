"""Perturbed cells whose response is known."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

GENES = 60


def perturbed_cells(conditions, *, contexts=("t0",), n=40, seed=0, noise=0.3, strength=0.0):
    """Each gene Gi moves its own eight features; pairs add; contexts shift and scale responses."""
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(99)
    base = {c: world.uniform(2, 4, GENES) for c in ("t0", "t1", "t2", "t3")}
    gain = {"t0": 1.0, "t1": 1 + strength, "t2": 1 - strength, "t3": 1.0}
    effects = {f"G{i}": np.zeros(GENES) for i in range(6)}
    for i in range(6):
        effects[f"G{i}"][i * 8 : i * 8 + 8] = world.choice([-1.0, 1.0], 8)
    blocks, rows = [], []
    for context in contexts:
        for condition in conditions:
            shift = sum((effects[p] for p in condition.split("+") if p != "ctrl"), np.zeros(GENES))
            mean = base[context] + gain[context] * shift
            blocks.append(np.maximum(rng.normal(mean, noise, (n, GENES)), 0))
            rows += [(condition, context)] * n
    adata = ad.AnnData(np.concatenate(blocks).astype(np.float32))
    adata.obs = pd.DataFrame(rows, columns=["condition", "cell_type"])
    adata.obs.index = [f"s{seed}c{i}" for i in range(adata.n_obs)]
    adata.var_names = [f"G{i}" for i in range(GENES)]
    return adata
