"""Batches of real data integrated by every method installed, over seeds.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 \
        python benchmarks/bench_integration.py --data $CELLWEAVE_DATA [--scib] [--only symphony]

Needs cellweave-tasks with the extras to be compared (harmony, combat, bbknn, scanorama; scvi where
there are counts), and cellweave-rna for raw counts. Prints one line a measure: mean over seeds.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import defaultdict
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from mudata import MuData

import cellweave
from cellweave_tasks import IntegrationTask
from cellweave_tasks.batches.methods import METHODS

# What the authors' labels are in the Cell Ontology.
SYMPHONY_TERMS = {
    "B": "CL:0000236", "DC": "CL:0000451", "HSC": "CL:0000037", "MK": "CL:0000556",
    "Mono_CD14": "CL:0001054", "Mono_CD16": "CL:0002396", "NK": "CL:0000623",
    "T_CD4": "CL:0000624", "T_CD8": "CL:0000625",
}  # fmt: skip


def symphony(data: Path):
    """PBMC by three chemistries; log-normalised, and the counts that these were made of."""
    cells = ad.read_h5ad(data / "pbmc_symphony_1200" / "pbmc_symphony_1200.h5ad")
    cells.layers["counts"] = counts_again(sp.csr_matrix(cells.X))
    obo = data / "vocab" / "cl_basic_or_full.obo"
    return cells, {"ontology": str(obo), "label_ids": SYMPHONY_TERMS} if obo.exists() else {}


def counts_again(logs):
    """Undo log(1 + s c): the smallest value of a cell is a count of one."""
    values = np.expm1(logs.data.astype(np.float64))
    factor = np.minimum.reduceat(values, logs.indptr[:-1])
    counts = values / np.repeat(factor, np.diff(logs.indptr))
    assert np.abs(counts - np.round(counts)).max() < 0.01
    return sp.csr_matrix((np.round(counts), logs.indices, logs.indptr), logs.shape, np.float32)


def mixology(data: Path):
    """Five cell lines by CEL-seq2 and Drop-seq; counts."""
    raw = ad.read_h5ad(data / "mixology_celllines" / "mixology_celllines.h5ad")
    raw = raw[raw.obs["demuxlet_cls"] == "SNG"].copy()
    return cellweave.prepare(MuData({"rna": raw}), seed=0)["rna"], {"batch_key": "tech"}


SETS = {"symphony": symphony, "mixology": mixology}


def run(cells, more: dict, asked: str | None, seeds: list[int]) -> dict:
    values: dict = defaultdict(dict)
    usable = [n for n, m in METHODS.items() if not m.missing()]
    usable = [n for n in usable if asked is None or n in asked.split(",")]
    if "counts" not in cells.layers:
        usable = [n for n in usable if not METHODS[n].needs_counts]
    for seed in seeds:
        task = IntegrationTask(use_rep=None, baselines=usable, seed=seed, **more)
        for score in task.fit(cells).evaluate(cells).items:
            if score.value is not None:
                values[score.metric].setdefault(score.method, []).append(score.value)
    return values


def with_spread(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def show(title: str, values: dict, seconds: float, n_seeds: int) -> None:
    methods = list(next(iter(values.values())))
    print(f"\n{title}  ({seconds:.0f} s, seeds: {n_seeds})")
    print(f"{'':20}" + "".join(f"{m.removesuffix(' on PCA'):>18}" for m in methods))
    for metric, found in values.items():
        cells = [with_spread(v) for v in found.values()]
        print(f"{metric:20}" + "".join(f"{c:>18}" for c in cells))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CELLWEAVE_DATA"))
    parser.add_argument("--only", choices=SETS, action="append")
    parser.add_argument("--methods", help="names, comma-separated; default: all installed")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--scib", action="store_true", help="add scib-metrics' own numbers")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data, or set CELLWEAVE_DATA")
    warnings.simplefilter("ignore")
    for name in options.only or SETS:
        start = time.perf_counter()
        cells, more = SETS[name](Path(options.data))
        seeds = [int(seed) for seed in options.seeds.split(",")]
        values = run(cells, {**more, "scib": options.scib}, options.methods, seeds)
        show(name, values, time.perf_counter() - start, len(seeds))


if __name__ == "__main__":
    main()
