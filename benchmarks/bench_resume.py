"""Kill a training at random moments, go on, and compare every bit.

    OMP_NUM_THREADS=1 python benchmarks/bench_resume.py [--quick] [--runs 100]

Each run is a process that is killed with SIGKILL at a moment drawn uniformly from the time an
uninterrupted run takes (reading, training, checkpoints and the writing of the model included),
then started again, up to three times over, and left to finish. Its losses and the bytes of its
weights are compared with those of the uninterrupted run. Dropout, accumulation, a schedule,
averaged weights and 0 or 2 workers are on. Processes are forked, so that no time goes into imports.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp
import torch

from cellweave_nn import PretrainConfig, pretrain
from cellweave_nn.training.run_folder import RunFolder, read_metrics


def write_cells(path):
    rng = np.random.default_rng(0)
    rate = np.where((np.arange(40)[None, :] + np.arange(200)[:, None]) % 2, 3.0, 0.3)
    values = np.log1p(rng.poisson(rate)).astype(np.float32)
    anndata.AnnData(sp.csr_matrix(values)).write_h5ad(path)


def config_of(cells, output, workers, steps):
    return PretrainConfig.model_validate(
        {
            "data": str(cells),
            "output": str(output),
            "encoder": {
                "name": "nn.transformer",
                "parameters": {
                    "width": 16,
                    "depth": 2,
                    "heads": 2,
                    "values": "continuous",
                    "dropout": 0.1,
                },
            },
            "objectives": {
                "gep": {"name": "nn.masked_value"},
                "mvc": {"name": "nn.cell_conditioned"},
            },
            "training": {
                "steps": steps,
                "cells_per_slot": 8,
                "slots_per_step": 2,
                "learning_rate": 3e-3,
                "warmup": 5,
                "ema": 0.9,
                "save_every": 4,
                "validation_fraction": 0.1,
                "validate_every": 7,
                "workers": workers,
                "device": "cpu",
            },
            "report": False,
            "seed": 1,
        }
    )


def started(config):
    """Start a run in a process of its own and return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)
        code = 0 if pretrain(config).finished else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_after(child, seconds):
    """Kill the process unless it ends by itself before."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(0.002, max(until - time.perf_counter(), 0)))
    os.kill(child, signal.SIGKILL)
    return ended(child)


def outcome(output):
    """Return all that must not depend on a kill."""
    lines = read_metrics(RunFolder(path=output).metrics)
    clock = ("seconds", "per_second", "mfu")
    kept = [{k: v for k, v in line.items() if not k.endswith(clock)} for line in lines]
    return kept, (output / "model" / "model.safetensors").read_bytes()


def where(output):
    """Say how far a killed run had come."""
    if not (output / "run.json").exists():
        return "before the run was written down"
    if (output / "model").exists():
        return "after the model was written"
    n = len(list((output / "checkpoints").glob("step-*")))
    return "between checkpoints" if n else "before the first checkpoint"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    arguments = parser.parse_args()
    runs, steps = (3, 12) if arguments.quick else (arguments.runs, arguments.steps)
    rng = np.random.default_rng(arguments.seed)
    identical, kills, places = 0, 0, Counter()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_cells(root / "cells.h5ad")
        whole, seconds = {}, {}
        for workers in (0, 2):
            begun = time.perf_counter()
            assert (
                ended(started(config_of(root / "cells.h5ad", root / f"w{workers}", workers, steps)))
                == 0
            )
            seconds[workers] = time.perf_counter() - begun
            whole[workers] = outcome(root / f"w{workers}")
        for run in range(runs):
            workers = (0, 2)[run % 2]
            output = root / f"run{run}"
            config = config_of(root / "cells.h5ad", output, workers, steps)
            for _ in range(1 + run % 3):
                code = killed_after(started(config), rng.uniform(0, seconds[workers]))
                if code == -signal.SIGKILL:
                    kills += 1
                    places[where(output)] += 1
            last = ended(started(config))
            same = last == 0 and outcome(output) == whole[workers]
            identical += same
            if not same:
                print(f"run {run}: exit code {last}, not the same")
            elif (run + 1) % 10 == 0:
                print(f"{run + 1} runs, {kills} kills, {identical} identical", flush=True)
    print(f"torch {torch.__version__}; a whole run takes {seconds[0]:.1f} s")
    print(f"{identical} of {runs} runs bit-identical after {kills} kills:")
    for place, n in places.most_common():
        print(f"{n:>6} killed {place}")
    raise SystemExit(identical != runs)


if __name__ == "__main__":
    main()
