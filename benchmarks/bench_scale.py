"""How the integrators grow: minutes, peak memory and exponents on simulated cells.

    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
    python benchmarks/bench_scale.py --methods maxfuse,bindsc,glue,scmodal --cells 12500,25000
    python benchmarks/bench_scale.py --methods maxfuse --cells 100000

Two unpaired modalities of so many cells each, 2 000 genes and 8 000 peaks, 20 types. Every run is
a process of its own at the defaults of its method, from the fit to the result; the simulation is
left out of the times and shown as the memory "before". The exponent is that of CPU time over the
size before it. Transfer: types of 1 000 cells by their nearest cell of the other modality.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

METHODS = {
    "maxfuse": ("cellweave_maxfuse", "MaxFuse"),
    "bindsc": ("cellweave_bindsc", "BindSC"),
    "glue": ("cellweave_glue", "GlueIntegrator"),
    "scmodal": ("cellweave_scmodal", "ScmodalIntegrator"),
}


def simulated(n, *, n_genes=2000, n_peaks=8000, n_types=20, seed=0):
    """Make two unpaired modalities of ``n`` cells each with types known; sampled, not modelled."""
    import anndata
    import mudata

    rng = np.random.default_rng(seed)
    genes = rng.gamma(0.3, 1, n_genes) * np.exp(rng.normal(0, 1, (n_types, n_genes)))
    link = rng.integers(0, n_genes, n_peaks)
    peaks = genes[:, link] * rng.gamma(0.5, 1, n_peaks)
    kinds = rng.integers(0, n_types, (2, n))
    parts = {}
    for name, profile, kind, depth in (
        ("rna", genes, kinds[0], 300),
        ("atac", peaks, kinds[1], 200),
    ):
        counts = sampled(profile / profile.sum(1, keepdims=True), kind, depth, rng)
        adata = anndata.AnnData(counts.log1p())
        adata.obs_names = [f"{name}{i}" for i in range(n)]
        adata.var_names = [f"{name}_feature{i}" for i in range(counts.shape[1])]
        adata.layers["counts"] = counts
        key = "X_pca" if name == "rna" else "X_lsi"
        adata.obsm[key] = components(adata.X)
        parts[name] = adata
    mdata = mudata.MuData(parts)
    return mdata, links_between(mdata, "atac", link, np.arange(n_peaks)), kinds


def sampled(profile, kind, depth, rng):
    cols = np.empty((len(kind), depth), np.int32)
    for k in range(len(profile)):
        at = np.flatnonzero(kind == k)
        cols[at] = rng.choice(profile.shape[1], (len(at), depth), p=profile[k])
    ones, starts = np.ones(cols.size, np.float32), np.arange(0, cols.size + 1, depth)
    counts = sp.csr_matrix((ones, cols.ravel(), starts), shape=(len(kind), profile.shape[1]))
    counts.sum_duplicates()
    return counts


def components(values, k=50):
    from sklearn.utils.extmath import randomized_svd

    u, s, _ = randomized_svd(values, k, n_iter=4, random_state=0)
    scores = (u * s).astype(np.float32)
    return scores - scores.mean(0)


def links_between(mdata, modality, rows, cols):
    from cellweave.records import FeatureLinks

    return FeatureLinks(
        source="rna",
        target=modality,
        source_features=mdata["rna"].var_names.to_numpy(str),
        target_features=mdata[modality].var_names.to_numpy(str),
        rows=np.asarray(rows, np.int32),
        cols=np.asarray(cols, np.int32),
        weights=np.ones(len(rows), np.float32),
        signs=np.ones(len(rows), np.int8),
        evidence=np.full(len(rows), "given"),
    )


def run(method: str, n: int, settings: dict) -> dict:
    import importlib

    module, name = METHODS[method]
    integrator = getattr(importlib.import_module(module), name)(**settings)
    mdata, links, kinds = simulated(n)
    before, told = peak_gb(), integrator.estimate(mdata)
    wall, cpu, seen = time.perf_counter(), time.process_time(), {}

    def note(report):
        seen[report.stage] = (report.step, report.total)
        if os.environ.get("BENCH_VERBOSE"):
            spent = time.process_time() - cpu
            print(f"{report.stage} {report.step}/{report.total} {spent:.0f} s", file=sys.stderr)

    result = integrator.fit(mdata, [links], progress=note).result()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    some = np.random.default_rng(0).choice(n, min(n, 1000), replace=False)
    near = nearest_rows(result.embeddings["atac"][some], result.embeddings["rna"])
    return {
        "wall": wall / 60,
        "cpu": cpu / 60,
        "peak": peak_gb(),
        "before": before,
        "told": told.seconds / 60,
        "told_gb": told.peak_bytes / 2**30,
        "transfer": float((kinds[0][near] == kinds[1][some]).mean()),
        "stages": {k: list(v) for k, v in seen.items()},
    }


def nearest_rows(some, others):
    distance = (others**2).sum(1) - 2 * some @ others.T
    return distance.argmin(1)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def child(method: str, n: int, settings: dict) -> dict:
    command = [sys.executable, str(Path(__file__).resolve()), "--run", method, "--cells", str(n)]
    command += ["--set", json.dumps(settings)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return {"error": f"exit {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--cells", default="12500,25000")
    parser.add_argument("--set", type=json.loads, default={}, help="settings as JSON")
    parser.add_argument("--run", choices=tuple(METHODS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(n) for n in options.cells.split(",")]
    if options.run:
        print(json.dumps(run(options.run, sizes[0], options.set)))
        return
    threads = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}
    print(f"threads {threads}, load {os.getloadavg()[0]:.1f}, settings {options.set or 'default'}")
    print(
        f"{'method':8} {'cells each':>10} {'wall min':>9} {'CPU min':>8} {'told':>6} "
        f"{'peak GB':>8} {'before':>7} {'told':>6} {'exponent':>8} {'transfer':>8}  "
        "last step by stage"
    )
    for method in options.methods.split(","):
        last = None
        for n in sizes:
            found = child(method, n, options.set)
            if "error" in found:
                print(f"{method:8} {n:10d} failed: {found['error']}", flush=True)
                continue
            grows = math.log(found["cpu"] / last[1]) / math.log(n / last[0]) if last else math.nan
            last = (n, found["cpu"])
            print(
                f"{method:8} {n:10d} {found['wall']:9.2f} {found['cpu']:8.2f} {found['told']:6.2f} "
                f"{found['peak']:8.2f} {found['before']:7.2f} {found['told_gb']:6.2f} "
                f"{grows:8.2f} {found['transfer']:8.3f}  {found['stages']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
