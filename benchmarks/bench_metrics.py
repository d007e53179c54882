"""Metrics against the plain forms: seconds, ratio, and the difference of the numbers.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_metrics.py

Contenders take turns and the best of several runs counts. Threads are pinned for all alike by the
environment: unpinned BLAS on a busy machine can turn the ratios round.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from cellweave.evaluation.pairs import foscttm
from cellweave.kernels.neighbours import nearest
from cellweave.kernels.silhouette import silhouette_widths


def by_turns(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> Any:
    """Return (seconds, value) of both, the best of several alternating runs."""
    best, values = [np.inf, np.inf], [None, None]
    for _ in range(repeats):
        for i, run in enumerate((first, second)):
            start = time.perf_counter()
            values[i] = run()
            best[i] = min(best[i], time.perf_counter() - start)
    return best, values


def row(name: str, size: str, best: list[float], difference: float) -> None:
    ours, theirs = best
    print(
        f"{name:32} {size:>16} {ours:9.3f} {theirs:9.3f} {theirs / ours:8.1f}x {difference:12.2e}"
    )


def full_foscttm(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    distances = cdist(x, y)
    own = np.diag(distances)
    return float((distances < own[:, None]).mean()), float((distances < own).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    n, rng = options.cells, np.random.default_rng(0)
    x = rng.normal(size=(n, 50))
    y = x + 2.0 * rng.normal(size=x.shape)
    codes = rng.integers(0, 20, n)
    x[codes == 0] += 2.0
    foscttm(x[:500], y[:500])  # compile before the clock runs
    nearest(x[:500], k=15, exclude_self=True)
    silhouette_widths(x[:500], codes[:500])
    threads = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}
    print(f"threads {threads}, load {os.getloadavg()[0]:.1f}, numpy {np.__version__}")
    print(
        f"{'metric':32} {'size':>16} {'ours s':>9} {'plain s':>9} {'ratio':>9} {'difference':>12}"
    )
    best, (ours, plain) = by_turns(
        lambda: foscttm(x, y), lambda: full_foscttm(x, y), options.repeats
    )
    row("FOSCTTM / cdist", f"{n} x 50", best, max(abs(a - b) for a, b in zip(ours, plain)))
    best, (ours, plain) = by_turns(
        lambda: silhouette_widths(x, codes), lambda: silhouette_samples(x, codes), options.repeats
    )
    row("silhouette / sklearn", f"{n} x 50, 20", best, float(np.abs(ours - plain).max()))
    search = NearestNeighbors(n_neighbors=15, algorithm="brute").fit(x)
    best, (ours, plain) = by_turns(
        lambda: nearest(x, k=15, exclude_self=True)[0],
        lambda: search.kneighbors(return_distance=False),
        options.repeats,
    )
    row("15 neighbours / sklearn brute", f"{n} x 50", best, float((ours != plain).mean()))
    tracemalloc.start()
    foscttm(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"FOSCTTM peak {peak / 1e6:.0f} MB (inputs among it), the full matrix {8e-6 * n * n:.0f} MB"
    )


if __name__ == "__main__":
    main()
