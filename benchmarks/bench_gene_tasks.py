"""Gene sets, surroundings, networks and unseen perturbations: every method beside its baselines.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 \
        python benchmarks/bench_gene_tasks.py --data $CELLWEAVE_DATA [--only genesets]

Three seeds. Needs cellweave-tasks and cellweave-rna. The screen is simulated: its rule is in
``cellweave_tasks.screens``. Networks are scored against pairs of genes that share a Reactome set of
at most 15 genes: a weak truth, the same for all methods.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from mudata import MuData

import cellweave
from cellweave_tasks import (
    DrugTask,
    GeneSetTask,
    NeighbourhoodTask,
    NetworkTask,
    PerturbationTask,
    by_fraction,
    by_tiles,
    by_unseen,
    closed_loop,
    drug_pairs,
    simulate_screen,
    unseen_perturbations,
)

SEEDS = (0, 1, 2)
SCREEN_METHODS = ("graph", "probe", "linear", "generator")  # the last needs cellweave-scgpt


class Table:
    """Values by group, metric and method, over seeds."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
        self.notes: list[str] = []

    def add(self, group: str, scores, metrics: tuple[str, ...], seed: int) -> None:
        for s in scores.items:
            if s.metric in metrics and not s.group and s.value is not None:
                self.values[group, s.metric, s.method][seed] = s.value

    def show(self, title: str, seconds: float) -> None:
        print(f"\n{title}  ({seconds:.0f} s)")
        print(f"{'group':26} {'metric':22} {'method':32} {'mean':>8} {'sd':>7} {'n':>3}")
        for (group, metric, method), found in self.values.items():
            v = list(found.values())
            sd = np.std(v, ddof=1) if len(v) > 1 else 0.0
            print(f"{group:26} {metric:22} {method:32} {np.mean(v):8.4f} {sd:7.4f} {len(v):3d}")
        for note in self.notes:
            print(note)


def kang(data: Path) -> ad.AnnData:
    return ad.read_h5ad(data / "kang_ifnb_1975" / "kang_ifnb_1975.h5ad")


def genesets(data: Path) -> Table:
    """Stimulated or not, and type, by Reactome sets; 30 % of the cells held out."""
    table = Table()
    cells, gmt = kang(data), str(data / "vocab" / "tosica_reactome.gmt")
    for key in ("condition", "cell_type"):
        for method in ("fourier", "linear"):
            for seed in SEEDS:
                split = by_fraction(cells.n_obs, test_fraction=0.3, seed=seed)
                task = GeneSetTask(gene_sets=gmt, label_key=key, method=method, seed=seed)
                scores = task.fit(cells[split.train]).evaluate(cells[split.test])
                table.add(f"{key}, {method}", scores, ("accuracy", "macro_f1", "n_sets"), seed)
                table.notes.append(f"{key} {method} {seed}: {scores.summary['selected'][:5]}")
    return table


def surroundings(data: Path) -> Table:
    """Composition and density around cells of the cortex; squares of tissue held out."""
    table = Table()
    raw = ad.read_h5ad(data / "osmfish_mouse_cortex" / "osmfish_mouse_cortex.h5ad")
    raw = raw[~raw.obs["cell_type"].isna().to_numpy()].copy()
    metrics = ("pearson", "pearson_density", "jensen_shannon", "relative_mse")
    for seed in SEEDS:
        cells = cellweave.prepare(MuData({"rna": raw}), seed=seed)["rna"]
        split = by_tiles(cells, tiles=6, test_fraction=0.25, seed=seed)
        for method in ("ridge", "kernel", "knn", "blend"):
            task = NeighbourhoodTask(method=method, seed=seed).fit(cells[split.train])
            scores = task.evaluate(cells[split.test])
            table.add("osmfish", scores, metrics, seed)
            table.notes.append(f"{method} {seed}: {scores.summary['headline']}")
    return table


def networks(data: Path) -> Table:
    """Pairs of genes of one small Reactome set, from half of Kang's cells."""
    from cellweave.data.gmt import read_gmt

    table = Table()
    cells = kang(data)
    seen = set(cells.var_names[(cells.X > 0).mean(axis=0).A1 > 0.05])
    links = set()
    for members in read_gmt(data / "vocab" / "tosica_reactome.gmt").values():
        if len(members) <= 15:
            links |= set(combinations(sorted(set(members) & seen), 2))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "links.csv")
        pd.DataFrame(sorted(links), columns=["source", "target"]).to_csv(path, index=False)
        for seed in SEEDS:
            split = by_fraction(cells.n_obs, test_fraction=0.5, seed=seed)
            train = cells[split.train].copy()
            train.varm["PCs"] = np.linalg.svd(
                train.X.toarray() - train.X.toarray().mean(axis=0), full_matrices=False
            )[2][:30].T
            for method in ("embedding", "partial"):
                task = NetworkTask(network=path, method=method, directed=False, seed=seed)
                scores = task.fit(train).evaluate(cells[split.test])
                metrics = ("auprc_ratio", "early_precision_ratio", "auroc", "reproducibility")
                table.add("kang, Reactome pairs", scores, metrics, seed)
                table.notes.append(f"{method} {seed}: {scores.summary['headline']}")
    return table


def screen(data: Path) -> Table:
    """A simulated sparse screen: 36 genes, 24 pairs, 30 cells each, a quarter of genes unseen."""
    table = Table()
    metrics = ("pearson_delta", "pearson_delta_top20", "mse", "rank_of_own")
    for seed in SEEDS:
        cells = simulate_screen(seed=seed)
        split = unseen_perturbations(cells, seed=seed)
        for method in SCREEN_METHODS:
            task = PerturbationTask(method=method, seed=seed).fit(cells[split.train])
            scores = task.evaluate(cells[split.test])
            table.add("screen", scores, metrics, seed)
            table.notes.append(f"{method} {seed}: {scores.summary['headline']}")
        for choose in ("unlike", "random"):
            table.notes.append(f"closed loop, {choose} {seed}: {_loop(cells, choose, seed)}")
    return table


def _loop(cells: ad.AnnData, choose: str, seed: int) -> str:
    conditions = cells.obs["condition"].to_numpy(dtype=str)
    singles = np.random.default_rng(seed).permutation(
        sorted(c for c in set(conditions) if c.endswith("+ctrl"))
    )
    known, pool, test = singles[:4], singles[4:26], singles[26:]
    parts = [cells[np.isin(conditions, p)].copy() for p in (["ctrl", *known], pool, test)]
    found = closed_loop(lambda: PerturbationTask(method="graph"), *parts, choose=choose, seed=seed)
    return found.summary["headline"]


def drug(data: Path) -> Table:
    """Simulated responses (levels and a pair's own part follow both descriptions, noise 0.3)."""
    table = Table()
    for seed in SEEDS:
        pairs = _responses(seed)
        for blind, keys in (
            ("drug", ["drug"]),
            ("cell", ["cell_line"]),
            ("both", ["drug", "cell_line"]),
        ):
            split = by_unseen(pairs, keys, test_share=0.25, seed=seed)
            for method in ("bilinear", "ridge", "kernel", "mlp"):
                task = DrugTask(method=method, blind=blind, seed=seed).fit(pairs[split.train])
                scores = task.evaluate(pairs[split.test])
                table.add(f"blind: {blind}", scores, ("rmse", "pearson", "pearson_per_drug"), seed)
    return table


def _responses(seed: int, n_cells: int = 60, n_drugs: int = 40) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    cells, drugs = rng.normal(size=(n_cells, 8)), rng.integers(0, 2, (n_drugs, 16)).astype(float)
    centred = drugs - 0.5
    y = 2 * (centred @ rng.normal(size=16))[None] + 0.5 * (cells @ rng.normal(size=8))[:, None]
    y = y + 0.3 * cells @ rng.normal(size=(8, 16)) @ centred.T + 0.3 * rng.normal(size=y.shape)
    lines = ad.AnnData(np.abs(cells).astype(np.float32))
    lines.obs_names = [f"line{i}" for i in range(n_cells)]
    lines.obsm["X_pca"] = cells.astype(np.float32)
    rows = [(f"line{c}", f"drug{d}", y[c, d]) for c in range(n_cells) for d in range(n_drugs)]
    responses = pd.DataFrame(rows, columns=["cell_line", "drug", "response"])
    names = [f"drug{i}" for i in range(n_drugs)]
    return drug_pairs(lines, responses, pd.DataFrame(drugs, index=names))


TASKS = {
    "genesets": genesets,
    "surroundings": surroundings,
    "networks": networks,
    "screen": screen,
    "drug": drug,
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
