"""Preparing RNA in memory and in blocks: peak memory and time by number of cells, and agreement.

Run ``python benchmarks/bench_prepare.py [--cells 50000 200000] [--genes 8000]``. Each run is
``cellweave prepare`` in a process of its own; its peak is the largest resident size of that
process. In blocks the peak should not grow with the cells, but for their names and components.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402

TYPES = 8
BLOCK = 2000


def write_counts(path: Path, n_cells: int, n_genes: int, per_cell: int) -> int:
    """Write counts of cells of a few types, block by block; return how many were stored."""
    rng = np.random.default_rng(0)
    rates = rng.lognormal(-3, 1.6, n_genes) * rng.lognormal(0, 0.9, (TYPES, n_genes))
    rates *= per_cell / rates.sum(axis=1, keepdims=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array([n_cells, n_genes])
        for name, kind in (("data", "f4"), ("indices", "i4")):
            group.create_dataset(name, (0,), maxshape=(None,), dtype=kind, chunks=(1 << 18,))
        ends = [np.zeros(1, dtype="i8")]
        for start in range(0, n_cells, BLOCK):
            n = min(BLOCK, n_cells - start)
            depth = rng.lognormal(0, 0.3, (n, 1))
            block = sp.csr_matrix(rng.poisson(rates[rng.integers(0, TYPES, n)] * depth))
            done = int(ends[-1][-1])
            for name in ("data", "indices"):
                group[name].resize((done + block.nnz,))
                group[name][done:] = getattr(block, name)
            ends.append(done + block.indptr[1:].astype("i8"))
        group["indptr"] = np.concatenate(ends)
        write_names(file, "obs", [f"cell{i}" for i in range(n_cells)])
        write_names(file, "var", [f"ENSG{i:011d}" for i in range(n_genes)])
        return int(ends[-1][-1])


def write_names(file: h5py.File, name: str, names: list[str]) -> None:
    """Write a table that has an index alone."""
    group = file.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
    group.attrs.update({"_index": "_index", "column-order": np.array([], dtype="S1")})
    index = group.create_dataset("_index", data=names, dtype=h5py.string_dtype())
    index.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def run(source: Path, output: Path, way: str) -> tuple[float, float]:
    """Return seconds and peak GiB of one ``cellweave prepare``."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(source), str(output)]
    started = time.perf_counter()
    said = subprocess.run([*command, way], check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - started, int(said.strip().splitlines()[-1]) / 2**20


def child(source: str, output: str, way: str) -> None:
    """Prepare, then print the peak of this process in KiB."""
    from cellweave.cli import main as cellweave

    code = cellweave(["prepare", source, "-o", output, f"--{way}", "-q"])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    sys.exit(code)


def agreement(one: Path, other: Path) -> str:
    """Compare two prepared files block by block."""
    with h5py.File(one) as first, h5py.File(other) as second:
        a, b = first["mod/rna"], second["mod/rna"]
        same = np.array_equal(a["var/highly_variable"][:], b["var/highly_variable"][:])
        pca = np.abs(a["obsm/X_pca"][:] - b["obsm/X_pca"][:]).max()
        largest = 0.0
        for at in range(0, a["X/data"].shape[0], 1 << 22):
            part = slice(at, at + (1 << 22))
            assert np.array_equal(a["X/indices"][part], b["X/indices"][part])
            apart = np.abs(a["X/data"][part] - b["X/data"][part])
            largest = max(largest, float(apart.max(initial=0)))
    return f"genes {same}, X apart {largest:.0e}, X_pca apart {pca:.0e}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--genes", type=int, default=8000)
    parser.add_argument("--counts", type=int, default=1500, help="Counts of an average cell.")
    parser.add_argument("--in-memory-up-to", type=int, default=50_000, metavar="CELLS")
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
    print(
        f"{options.genes:,} genes, {options.counts} counts a cell, 1 thread, {platform.machine()}"
    )
    print(f"{'cells':>9}{'stored':>14}{'way':>15}{'seconds':>9}{'peak GiB':>10}   agreement")
    for n_cells in options.cells:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "raw.h5ad"
            stored = write_counts(source, n_cells, options.genes, options.counts)
            ways = ("out-of-core", "in-memory")[: 1 + (n_cells <= options.in_memory_up_to)]
            for way in ways:
                seconds, peak = run(source, Path(folder) / f"{way}.h5mu", way)
                row = f"{n_cells:>9,}{stored:>14,}{way:>15}{seconds:>9.0f}{peak:>10.2f}"
                print(row, flush=True)
            if len(ways) > 1:
                both = [Path(folder) / f"{way}.h5mu" for way in ways]
                print(f"{'':>57}   {agreement(*both)}", flush=True)


if __name__ == "__main__":
    main()
