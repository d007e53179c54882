"""Spatial context for dissociated cells: one tumour (PDAC-A) as spots and as single cells.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 \
        python benchmarks/bench_spatial_context.py --data $CELLWEAVE_DATA

Needs cellweave-tasks[harmony] and cellweave-rna. Spots and cells share one space (principal axes of
their common genes, Harmony over the two technologies). Dissociated cells have no place, so what can
be scored is scored on spots in squares of tissue that were held out, three seeds:

- surroundings: the mean expression of the six spots around (their first ten principal axes), from
  the spot's own embedding alone;
- composition: shares of types among the six spots around; a spot's type is what a classifier
  trained on the single cells says of it, so this is no measured truth.

Then the model of all spots says for each single cell what surrounds it; shown is how much more of
each kind of type (cancer, ductal, immune) it expects there than the tissue has on average.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections import defaultdict
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from mudata import MuData

import cellweave
from cellweave.kernels.neighbours import nearest
from cellweave_tasks import AnnotationTask, CrossModalityTask, IntegrationTask, by_tiles
from cellweave_tasks.neighbourhood import NeighbourhoodTask

SEEDS, AROUND, AXES = (0, 1, 2), 6, 10
KINDS = {"cancer": "Cancer", "ductal": "Ductal"}


def joint(data: Path):
    """Return spots and cells in one space."""
    folder = data / "pdac_a_sc_and_st"
    cells, spots = (ad.read_h5ad(folder / f"pdac_a_{n}.h5ad") for n in ("scrna", "st"))
    kept = cells.obs["cell_type"].map(cells.obs["cell_type"].value_counts()).to_numpy() >= 10
    both = ad.concat({"cells": cells[kept], "spots": spots}, label="tech", index_unique="-")
    both.X = both.X.tocsr()
    ready = cellweave.prepare(MuData({"rna": both}), seed=0)["rna"]
    task = IntegrationTask(method="harmony", batch_key="tech").fit(ready)
    ready.obsm["X_joint"] = np.asarray(task.predict(ready).values)
    is_spot = (ready.obs["tech"] == "spots").to_numpy()
    cells_, spots_ = ready[~is_spot].copy(), ready[is_spot].copy()
    cells_.obs["cell_type"] = cells[kept].obs["cell_type"].astype(str).to_numpy()
    spots_.obsm["spatial"] = np.asarray(spots.obsm["spatial"], dtype=np.float64)
    return cells_, spots_


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CELLWEAVE_DATA"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data, or set CELLWEAVE_DATA")
    warnings.simplefilter("ignore")
    cells, spots = joint(Path(options.data))
    typer = AnnotationTask(use_rep="X_joint", method="linear", unknown_rate=0.0).fit(cells)
    spots.obs["cell_type"] = typer.predict(spots).values.astype(str)
    print(f"{cells.n_obs} cells, {spots.n_obs} spots, {cells.n_vars} genes")
    print(spots.obs["cell_type"].value_counts().to_string())
    near = nearest(spots.obsm["spatial"], k=AROUND, exclude_self=True)[0]
    around = spots.obsm["X_pca"][near].mean(axis=1)[:, :AXES]
    spots.obsm["target"] = pd.DataFrame(around, index=spots.obs_names).add_prefix("axis")
    show(scored(spots))
    told(cells, spots)


def scored(spots) -> dict:
    values: dict = defaultdict(list)
    for seed in SEEDS:
        split = by_tiles(spots, tiles=4, test_fraction=0.25, seed=seed)
        train, test = spots[split.train].copy(), spots[split.test].copy()
        for use_rep in ("X_joint", "X_pca"):
            runs = {"surroundings": CrossModalityTask(use_rep=use_rep, method="ridge", seed=seed)}
            runs["composition"] = NeighbourhoodTask(use_rep=use_rep, k=AROUND, seed=seed)
            for title, task in runs.items():
                for s in task.fit(train).evaluate(test).items:
                    if not s.group and s.value is not None:
                        values[title, s.metric, s.method].append(s.value)
    return values


def show(values: dict) -> None:
    for (title, metric, method), found in values.items():
        spread = f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}"
        print(f"{title:14} {metric:18} {method:26} {spread}")


def told(cells, spots) -> None:
    """Say for the single cells what is expected around them."""
    task = NeighbourhoodTask(use_rep="X_joint", k=AROUND).fit(spots)
    found = task.predict(cells)
    table = pd.DataFrame(found.values, columns=found.columns)
    mean = task.truth(spots).mean(axis=0)
    gaps = table - mean
    kinds = pd.DataFrame(
        {k: gaps[[c for c in table if c.startswith(v)]].sum(axis=1) for k, v in KINDS.items()}
    )
    rest = [c for c in table if not c.startswith((*KINDS.values(), "density"))]
    kinds["others"] = gaps[rest].sum(axis=1)
    kinds["type"] = cells.obs["cell_type"].to_numpy()
    print("\nexpected around single cells, above the tissue's mean share")
    print(kinds.groupby("type").mean().round(3).to_string())


if __name__ == "__main__":
    main()
