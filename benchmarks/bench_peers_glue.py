"""GLUE beside the official scglue on the same prepared cells: quality, CPU seconds, peak memory.

    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
    export CELLWEAVE_DATA=...      # a folder with cite_pbmc10k_10x, snare_mouse_cortex, draws
    python benchmarks/bench_peers_glue.py --data cite,snare --seeds 0,1,2
    python benchmarks/bench_peers_glue.py --official-python .../bin/python --official-epochs 6,25
    python benchmarks/bench_peers_glue.py --official-python ... --budgets 0.25,0.5,1

Ours runs at its defaults, the pairing hidden. The official package runs in an environment of its
own (``pip install scglue``) on the same representations, counts and links; without
``--official-epochs`` on its full schedule, which takes hours. Every run is a process of its own.

An epoch is the same for both: 128 cells of each modality a step, as many steps as hold 9 of 10
cells. So the ratio to look at when the official run is cut short is that of CPU seconds an epoch;
ours counts everything from the checks to the quality of the result in it.

``--budgets`` also fits ours at other lengths (``progress``) and prints, for each official run, the
CPU seconds of ours that reach its quality: the first budget whose FOSCTTM and label transfer,
better of Euclidean and cosine, are both at least as good.

Cut to one epoch the official package runs into NaN: so early none of its clusters match (all
cosines lie below its cutoff of 0.5), its balancing weights are 0/0, and so is the discriminator's
loss from the first step of the second phase on. Fewer than 3 epochs are refused here therefore.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

_COLUMNS = ("foscttm_eu", "foscttm_cos", "transfer_eu", "transfer_cos")


def run_ours(name: str, draw: bool, seed: int, settings: dict) -> dict:
    import glue_real_data

    from cellweave_glue import GlueIntegrator

    case = glue_real_data.load(name, draw=draw)
    integrator = GlueIntegrator(seed=seed, **settings)
    told = integrator.estimate(case.mdata)
    start, wall = time.process_time(), time.perf_counter()
    result = integrator.fit(case.mdata, case.links).result()
    spent = time.process_time() - start
    found = glue_real_data.scores(case, result.embeddings["rna"], result.embeddings[case.other])
    return {
        **found,
        "cpu": spent,
        "epochs": len(result.history["loss"]),
        "wall": time.perf_counter() - wall,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "told": told.seconds,
        "consistency": result.quality["consistency"],
        "advice": len(result.advice),
    }


def hand_over(name: str, draw: bool, folder: Path) -> None:
    """Write what the official package reads: a h5ad a modality, and the links."""
    import glue_real_data
    import numpy as np

    from cellweave_glue.inputs import InputSettings, collect

    case = glue_real_data.load(name, draw=draw)
    settings = InputSettings(use_rep={}, likelihoods={})
    data, links, _ = collect(case.mdata, case.links, settings)
    for modality, d in data.items():
        adata = case.mdata.mod[modality][:, d.features].copy()
        adata.obsm["rep"] = d.representation
        adata.var["highly_variable"] = True
        for slot in (adata.uns, adata.varm, adata.obsp):
            slot.clear()
        adata.write_h5ad(folder / f"{modality}.h5ad")
    frames = [link.to_frame() for link in links]
    for link, frame in zip(links, frames):
        frame["source"] = f"{link.source}:" + frame["source"]
        frame["target"] = f"{link.target}:" + frame["target"]
    frames[0].to_csv(folder / "links.csv", index=False)
    np.savez(folder / "truth.npz", partner=case.partner, labels=case.labels, other=case.other)


def run_official(folder: Path, seed: int, epochs: int | None) -> dict:
    """Fit scglue on what :func:`hand_over` wrote; runs under the other Python."""
    import anndata
    import networkx as nx
    import numpy as np
    import pandas as pd
    import scglue

    parts = {p.stem: anndata.read_h5ad(p) for p in sorted(folder.glob("*.h5ad"))}
    for name, adata in parts.items():
        adata.var_names = f"{name}:" + adata.var_names
        scglue.models.configure_dataset(
            adata, "NB", use_highly_variable=True, use_layer="counts", use_rep="rep"
        )
    graph = nx.MultiDiGraph()
    for row in pd.read_csv(folder / "links.csv").itertuples():
        for a, b, kind in ((row.source, row.target, "fwd"), (row.target, row.source, "rev")):
            graph.add_edge(a, b, key=kind, weight=row.weight, sign=row.sign, type=kind)
    for adata in parts.values():
        for vertex in adata.var_names:
            graph.add_edge(vertex, vertex, key="loop", weight=1.0, sign=1, type="loop")
    limits = {} if epochs is None else {"max_epochs": epochs, "align_burnin": max(1, epochs // 6)}
    epochs_run = counted_epochs(scglue)
    start, wall = time.process_time(), time.perf_counter()
    glue = scglue.models.fit_SCGLUE(
        parts,
        graph,
        init_kws={"random_seed": seed},
        fit_kws={**limits, "directory": str(folder / "run")},
    )
    out = {name: glue.encode_data(name, adata) for name, adata in parts.items()}
    np.savez(folder / "embedded.npz", **out)
    own = time.process_time() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu": own + children.ru_utime + children.ru_stime,
        "epochs": len(epochs_run),
        "wall": time.perf_counter() - wall,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def counted_epochs(scglue) -> list[int]:
    """Note every epoch of the official package as it ends."""
    seen: list[int] = []
    trainer = scglue.models.scglue.SCGLUETrainer
    plain = trainer.report_metrics

    def report_metrics(self, train_state, val_state):
        seen.append(train_state.epoch)
        plain(self, train_state, val_state)

    trainer.report_metrics = report_metrics
    return seen


def score_official(name: str, draw: bool, folder: Path) -> dict:
    import glue_real_data
    import numpy as np

    case = glue_real_data.load(name, draw=draw)
    found = np.load(folder / "embedded.npz")
    return glue_real_data.scores(case, found["rna"], found[case.other])


def child(python: str, *arguments: str) -> dict:
    command = [python, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def line(what: str, values: dict) -> str:
    if "error" in values:
        return f"{what:34} failed: {values['error']}"
    numbers = " ".join(f"{values[c]:11.4f}" for c in _COLUMNS)
    an_epoch = values["cpu"] / max(values["epochs"], 1)
    return (
        f"{what:34} {numbers} {values['cpu']:8.0f} {values['epochs']:7d} {an_epoch:8.2f} "
        f"{values['peak']:8.2f}"
    )


def compare(options: argparse.Namespace) -> None:
    threads = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}
    print(f"threads {threads}, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'run':34} {' '.join(f'{c:>11}' for c in _COLUMNS)} {'CPU s':>8} {'epochs':>7} "
        f"{'an epoch':>8} {'peak GB':>8}"
    )
    for name in options.data.split(","):
        ours = {budget: run_seeds(name, budget, options) for budget in budgets(options)}
        for epochs in options.official_epochs if options.official_python else ():
            theirs = official(name, epochs, options)
            print(line(f"scglue {name} {epochs or 'all'} epochs", theirs), flush=True)
            if "cpu" in theirs:
                print_ratios(theirs, ours)


def budgets(options: argparse.Namespace) -> list[float | None]:
    """Return lengths of a fit, shortest first; None is the default."""
    return sorted(map(float, options.budgets.split(","))) if options.budgets else [None]


def run_seeds(name: str, budget: float | None, options: argparse.Namespace) -> list[dict]:
    size = "all" if options.whole else "2500"
    settings = {**options.set, **({} if budget is None else {"progress": budget})}
    told = ["--set", json.dumps(settings)] if settings else []
    label = "" if budget is None else f" progress {budget:g}"
    runs = []
    for seed in options.seeds.split(","):
        found = child(sys.executable, "--run", "ours", *_chosen(name, seed, options), *told)
        print(line(f"ours {name} {size} seed {seed}{label}", found), flush=True)
        runs += [found] if "cpu" in found else []
    return runs


def print_ratios(theirs: dict, ours: dict[float | None, list[dict]]) -> None:
    longest = list(ours.values())[-1]
    if not longest:
        return
    whole = mean(r["cpu"] for r in longest)
    an_epoch = mean(r["cpu"] / r["epochs"] for r in longest)
    print(
        f"{'CPU ratio':34} {theirs['cpu'] / whole:.1f}x as run, "
        f"{theirs['cpu'] / theirs['epochs'] / an_epoch:.1f}x an epoch"
    )
    wanted = quality([theirs])
    for runs in ours.values():
        reached = quality(runs) if runs else (1.0, 0.0)
        if reached[0] <= wanted[0] and reached[1] >= wanted[1]:
            seconds = mean(r["cpu"] for r in runs)
            print(
                f"{'its quality by ours':34} in {seconds:.0f} CPU s instead of "
                f"{theirs['cpu']:.0f}: {theirs['cpu'] / seconds:.0f}x",
                flush=True,
            )
            return
    print(f"{'its quality by ours':34} not reached by these budgets", flush=True)


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def quality(runs: list[dict]) -> tuple[float, float]:
    """Return FOSCTTM and label transfer, each by the better of the two metrics."""
    return (
        min(mean(r[k] for r in runs) for k in _COLUMNS[:2]),
        max(mean(r[k] for r in runs) for k in _COLUMNS[2:]),
    )


def official(name: str, epochs: int | None, options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hand_over(name, not options.whole, folder)
        limits = ["--official-epochs", str(epochs)] if epochs else []
        fitted = child(
            options.official_python, "--run", "official", "--folder", place, "--seeds", "0", *limits
        )
        if "error" in fitted:
            return fitted
        return {**fitted, **score_official(name, not options.whole, folder)}


def _chosen(name: str, seed: str, options: argparse.Namespace) -> list[str]:
    return ["--data", name, "--seeds", seed, *(["--whole"] if options.whole else [])]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="cite,snare")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--whole", action="store_true", help="all cells, not the 2 500-cell draw")
    parser.add_argument("--set", type=json.loads, default={}, help="settings of ours as JSON")
    parser.add_argument("--official-python", help="python of an environment with scglue")
    parser.add_argument("--official-epochs", default="", help="cut both phases short: 6 or 6,25")
    parser.add_argument("--budgets", default="", help="lengths of ours (progress): 0.25,0.5,1")
    parser.add_argument("--run", choices=("ours", "official"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    lengths = [int(n) for n in options.official_epochs.split(",") if n] or [None]
    options.official_epochs = lengths
    if any(n is not None and n < 3 for n in lengths):
        parser.error(
            f"--official-epochs {lengths}: give at least 3. With fewer none of the clusters of the "
            "two modalities match, and scglue's weights become 0/0."
        )
    seed = int(options.seeds.split(",")[0])
    if options.run == "ours":
        print(json.dumps(run_ours(options.data, not options.whole, seed, options.set)))
    elif options.run == "official":
        print(json.dumps(run_official(options.folder, seed, lengths[0])))
    else:
        compare(options)


if __name__ == "__main__":
    main()
