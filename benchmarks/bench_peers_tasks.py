"""Published methods beside ours in the same run: totalVI and scGen, each in its own environment.

    python benchmarks/bench_peers_tasks.py --data $CELLWEAVE_DATA \
        --totalvi-python .../bin/python --scgen-python .../bin/python [--only protein]

Environments: ``pip install scvi-tools`` for totalVI, ``pip install pertpy "scvi-tools[jax]"
"statsmodels<0.15"`` for scGen. Split, truth and score are one for all; every peer runs in a process
of its own, at most ``--cells`` cells and ``--epochs`` epochs.

- protein: a fifth of the cells held out; mean over proteins of the Pearson correlation over cells,
  on two scales: log(1 + count), and that centred in each cell. totalVI sees the RNA of the test
  cells in training, and the better of its two predictions (with or without background) is shown.
- kang: the stimulated cells of one type held out; correlation of the predicted change with the
  measured one, over all genes and the 20 most changed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
from mudata import MuData

import cellweave
from cellweave_tasks import CrossModalityTask, PerturbationTask, by_fraction, unseen_context
from cellweave_tasks.perturbation_scores import response_scores
from cellweave_tasks.regressors import column_correlations

HERE = Path(__file__).parent
SHOWN = ("pearson_delta", "pearson_delta_top20", "mse")


def run_peer(python: str, script: str, *arguments: object) -> float:
    """Run a peer's script; return the seconds it took."""
    start = time.perf_counter()
    command = [python, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:])
        message = f"{script} failed"
        raise RuntimeError(message)
    return time.perf_counter() - start


def protein(options, folder: Path) -> dict:
    raw = mudata.read_h5mu(options.data / "cite_pbmc10k_10x" / "cite_pbmc10k_10x.h5mu")
    if raw.n_obs > options.cells:
        rng = np.random.default_rng(0)
        raw = raw[np.sort(rng.choice(raw.n_obs, options.cells, replace=False))].copy()
    rna, counts = raw["rna"], np.asarray(raw["adt"].X.todense())
    ready = cellweave.prepare(MuData({"rna": rna.copy()}))["rna"]
    logs = np.log1p(counts)
    scales = {"log": logs, "clr": logs - logs.mean(axis=1, keepdims=True)}
    values: dict = defaultdict(list)
    for seed in options.seeds:
        split = by_fraction(rna.n_obs, test_fraction=0.2, seed=seed)
        for scale, target in scales.items():
            cells = ready.copy()
            cells.obsm["target"] = pd.DataFrame(target, index=cells.obs_names)
            start = time.perf_counter()
            task = CrossModalityTask(seed=seed).fit(cells[split.train])
            scores = task.evaluate(cells[split.test])
            values[f"{scale} seconds", "ours (with baselines)"].append(time.perf_counter() - start)
            for s in scores.items:
                if s.metric == "pearson" and not s.group:
                    values[scale, s.method].append(s.value)
        if options.totalvi_python:
            found = totalvi(rna, counts, split, seed, options, folder)
            values["log seconds", "totalVI"].append(found.pop("seconds"))
            for scale in scales:
                told = [np.log1p(v) for v in found.values()]
                if scale == "clr":
                    told = [t - t.mean(axis=1, keepdims=True) for t in told]
                right = scales[scale][split.test]
                best = max(float(column_correlations(t, right).mean()) for t in told)
                values[scale, "totalVI"].append(best)
    return values


def totalvi(rna, counts, split, seed, options, folder: Path) -> dict:
    side = np.full(rna.n_obs, "train", dtype=object)
    side[split.test] = "test"
    known = counts.copy()
    known[split.test] = 0
    cells = ad.AnnData(rna.X.copy(), obs=pd.DataFrame({"side": side}, index=rna.obs_names))
    cells.obsm["protein"] = known
    cells.write_h5ad(folder / "cells.h5ad")
    out = folder / "totalvi.npz"
    seconds = run_peer(options.totalvi_python, "peer_totalvi.py", folder / "cells.h5ad", out,
                       seed, options.epochs)  # fmt: skip
    with np.load(out) as kept:
        names = ("foreground", "with_background")
        return {n: kept[n][split.test] for n in names} | {"seconds": seconds}


def kang(options, folder: Path) -> dict:
    cells = ad.read_h5ad(options.data / "kang_ifnb_1975" / "kang_ifnb_1975.h5ad")
    values: dict = defaultdict(list)
    for seed in options.seeds:
        for context in options.contexts or sorted(set(cells.obs["cell_type"])):
            split = unseen_context(cells, context, control="control")
            train, test = cells[split.train].copy(), cells[split.test].copy()
            task = PerturbationTask(control="control", seed=seed).fit(train)
            for s in task.evaluate(test).items:
                if s.metric in SHOWN and not s.group:
                    values[s.metric, s.method].append(s.value)
            if options.scgen_python:
                found = scgen(train, test, context, task.changes(test)[0], seed, options, folder)
                for metric in SHOWN:
                    values[metric, "scGen"].append(found[metric])
                values["seconds", "scGen"].append(found["seconds"])
    return values


def scgen(train, test, context: str, change, seed: int, options, folder: Path) -> dict:
    light = ad.AnnData(train.X, obs=train.obs[["cell_type", "condition"]], var=train.var[[]])
    for column in light.obs:
        light.obs[column] = light.obs[column].astype(str)
    light.write_h5ad(folder / "train.h5ad")
    out = folder / "scgen.npz"
    seconds = run_peer(options.scgen_python, "peer_scgen.py", folder / "train.h5ad", out, context,
                       seed, options.epochs or 100)  # fmt: skip
    own = (train.obs["cell_type"] == context) & (train.obs["condition"] == "control")
    base = np.asarray(train[own.to_numpy()].X.mean(axis=0)).ravel()
    with np.load(out) as kept:
        predicted = kept["mean"] - base
    return response_scores(predicted, change.true, change.top) | {"seconds": seconds}


def show(title: str, values: dict) -> None:
    print(f"\n{title}\n{'measure':22} {'method':30} {'mean':>8} {'sd':>7} {'n':>3}", flush=True)
    for (measure, method), found in values.items():
        sd = np.std(found, ddof=1) if len(found) > 1 else 0.0
        print(f"{measure:22} {method:30} {np.mean(found):8.4f} {sd:7.4f} {len(found):3d}")


RUNS = {"protein": protein, "kang": kang}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CELLWEAVE_DATA"))
    parser.add_argument("--only", choices=RUNS, action="append")
    parser.add_argument("--totalvi-python", default="")
    parser.add_argument("--scgen-python", default="")
    parser.add_argument("--contexts", type=lambda t: t.split(","), help="of kang; all if not given")
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=0, help="0: the peer's own number")
    parser.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[0])
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data, or set CELLWEAVE_DATA")
    options.data = Path(options.data)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or RUNS:
            show(name, RUNS[name](options, Path(folder)))


if __name__ == "__main__":
    main()
