"""What each term of GLUE is worth on real data: the fit without it, beside the whole.

    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
    export CELLWEAVE_DATA=...
    python benchmarks/bench_glue_ablation.py --data cite,snare --seeds 0

FOSCTTM, label transfer and mixing, each with its change (above 0: the term earns its place).
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
from bench_peers_glue import child

ABLATIONS = {
    "whole": {},
    "no anchors": {"lam_anchor": 0.0},
    "anchors without margin": {"anchor_margin": 0.0},
    "no feature floor": {"feature_floor": 1},
    "no adversary": {"lam_align": 0.0},
    "no graph loss": {"lam_graph": 0.0},
    "no balancing": {"balance": False},
    "protein by nb_mixture": {"likelihoods": {"prot": "nb_mixture"}},
}


def run(name: str, seed: str, settings: dict) -> dict:
    chosen = ("--data", name, "--seeds", seed, "--set", json.dumps(settings))
    return child(sys.executable, "--run", "ours", *chosen)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="cite,snare")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", help="names of ablations, separated by commas")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(ABLATIONS)
    names = "".join(f"{n:>9} {'worse by':>9}" for n in ("foscttm", "transfer", "mixing"))
    print(f"{'data':6} {'fit':26} {names}")
    for name in options.data.split(","):
        whole = None
        for what in chosen:
            if name != "cite" and what.startswith("protein"):
                continue
            runs = [run(name, seed, ABLATIONS[what]) for seed in options.seeds.split(",")]
            failed = [r["error"] for r in runs if "error" in r]
            if failed:
                print(f"{name:6} {what:26} failed: {failed[0]}")
                continue
            now = [np.mean([r[k] for r in runs]) for k in ("foscttm_cos", "transfer_cos", "mixing")]
            whole = now if whole is None else whole
            print(
                f"{name:6} {what:26} {now[0]:9.4f} {now[0] - whole[0]:9.4f} "
                f"{now[1]:9.4f} {whole[1] - now[1]:9.4f} {now[2]:9.3f} {whole[2] - now[2]:9.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
