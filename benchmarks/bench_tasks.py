"""Tasks on real data: every model beside its baselines, three seeds.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 \
        python benchmarks/bench_tasks.py --data $CELLWEAVE_DATA [--only perturbation]

Needs cellweave-tasks, cellweave-rna and cellweave-protein. Splits keep technologies, cell types
and pieces of tissue on one side; see each function.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import defaultdict
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
from mudata import MuData

import cellweave
from cellweave_tasks import (
    AnnotationTask,
    CrossModalityTask,
    ImputationTask,
    PerturbationTask,
    SpatialTask,
    by_fraction,
    by_group,
    by_tiles,
    unseen_context,
    with_target,
)

SEEDS = (0, 1, 2)


class Table:
    """Values by group, metric and method, over seeds."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)

    def add(self, group: str, scores, metrics: tuple[str, ...]) -> None:
        for s in scores.items:
            if s.metric in metrics and not s.group and s.value is not None:
                self.values[group, s.metric, s.method][s.seed] = s.value  # baselines come again

    def show(self, title: str, seconds: float) -> None:
        print(f"\n{title}  ({seconds:.0f} s)")
        print(f"{'group':22} {'metric':16} {'method':32} {'mean':>8} {'sd':>7} {'n':>3}")
        for (group, metric, method), found in self.values.items():
            v = list(found.values())
            sd = np.std(v, ddof=1) if len(v) > 1 else 0.0
            print(f"{group:22} {metric:16} {method:32} {np.mean(v):8.4f} {sd:7.4f} {len(v):3d}")
        pooled: dict[tuple[str, str], list[float]] = defaultdict(list)
        for (_, metric, method), v in self.values.items():
            pooled[metric, method] += v.values()
        if len({g for g, _, _ in self.values}) > 1:
            for (metric, method), v in pooled.items():
                print(f"{'ALL':22} {metric:16} {method:32} {np.mean(v):8.4f}")


def prepared(adata, seed: int, name: str = "rna"):
    return cellweave.prepare(MuData({name: adata}), seed=seed)[name]


def annotation(data: Path) -> Table:
    """Cell lines across technologies, and each line in turn left out of training."""
    table = Table()
    raw = ad.read_h5ad(data / "mixology_celllines" / "mixology_celllines.h5ad")
    raw = raw[raw.obs["demuxlet_cls"] == "SNG"].copy()
    metrics = ("accuracy", "macro_f1", "ece", "novel_auroc", "unknown_recall", "false_unknown")
    for seed in SEEDS:
        cells = prepared(raw, seed)
        for tech in sorted(set(cells.obs["tech"])):
            split = by_group(cells, "tech", [tech])
            for method in ("linear", "knn", "prototype"):
                task = AnnotationTask(group_key="tech", method=method, seed=seed)
                scores = task.fit(cells[split.train]).evaluate(cells[split.test])
                table.add(f"test {tech}", scores, metrics)
        split = by_group(cells, "batch", [sorted(set(cells.obs["batch"]))[0]])
        for line in sorted(set(cells.obs["cell_type"])):
            train = cells[split.train]
            task = AnnotationTask(group_key="batch", seed=seed)
            task.fit(train[train.obs["cell_type"] != line])
            table.add(f"unseen {line}", task.evaluate(cells[split.test]), metrics[3:])
    return table


def perturbation(data: Path) -> Table:
    """The response to IFN-β of each cell type, predicted from the other types."""
    table = Table()
    cells = ad.read_h5ad(data / "kang_ifnb_1975" / "kang_ifnb_1975.h5ad")
    metrics = ("pearson_delta", "pearson_delta_top20", "direction_top20", "mse", "e_distance")
    for seed in SEEDS:
        for context in sorted(set(cells.obs["cell_type"])):
            split = unseen_context(cells, context, control="control")
            train, test = cells[split.train], cells[split.test]
            for method in ("context_shift", "latent_shift"):
                task = PerturbationTask(control="control", method=method, seed=seed).fit(train)
                table.add(context, task.evaluate(test), metrics)
    return table


def protein(data: Path) -> Table:
    """Proteins from RNA, a fifth of the cells held out."""
    table = Table()
    raw = mudata.read_h5mu(data / "cite_pbmc10k_10x" / "cite_pbmc10k_10x.h5mu")
    ready = cellweave.prepare(MuData({"rna": raw["rna"], "prot": raw["adt"]}))
    cells = with_target(ready["rna"], ready["prot"])
    for seed in SEEDS:
        split = by_fraction(cells.n_obs, test_fraction=0.2, seed=seed)
        task = CrossModalityTask(seed=seed).fit(cells[split.train])
        table.add("cite_pbmc10k", task.evaluate(cells[split.test]), ("pearson", "relative_mse"))
    return table


def imputation(data: Path) -> Table:
    """Half of the counts from the other half, in cells not trained on."""
    table = Table()
    raw = ad.read_h5ad(data / "mixology_celllines" / "mixology_celllines.h5ad")
    raw = raw[(raw.obs["demuxlet_cls"] == "SNG") & (raw.obs["tech"] == "CEL-seq2")].copy()
    raw.layers["counts"] = raw.X
    for seed in SEEDS:
        split = by_fraction(raw.n_obs, test_fraction=0.25, seed=seed)
        task = ImputationTask(seed=seed).fit(raw[split.train])
        table.add("CEL-seq2", task.evaluate(raw[split.test]), ("pearson", "relative_mse"))
    return table


def spatial(data: Path) -> Table:
    """Layers of a cortex by place: squares of tissue held out."""
    table = Table()
    for name, key in (("visium_dlpfc_151510", "cell_type"), ("osmfish_mouse_cortex", "region")):
        raw = ad.read_h5ad(data / name / f"{name}.h5ad")
        raw = raw[~raw.obs[key].isna().to_numpy()].copy()
        for seed in SEEDS:
            cells = prepared(raw, seed)
            split = by_tiles(cells, tiles=6, test_fraction=0.25, seed=seed)
            task = SpatialTask(label_key=key, seed=seed).fit(cells[split.train])
            table.add(name, task.evaluate(cells[split.test]), ("accuracy", "macro_f1"))
    return table


TASKS = {
    "annotation": annotation,
    "perturbation": perturbation,
    "protein": protein,
    "imputation": imputation,
    "spatial": spatial,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CELLWEAVE_DATA"))
    parser.add_argument("--only", choices=TASKS, action="append")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data, or set CELLWEAVE_DATA")
    warnings.simplefilter("ignore")
    for name in options.only or TASKS:
        start = time.perf_counter()
        TASKS[name](Path(options.data)).show(name, time.perf_counter() - start)


if __name__ == "__main__":
    main()
