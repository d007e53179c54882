"""Cells a second from disk, shuffled: our store, our file stream, anndata backed, scDataset.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_stream.py --cells 100000

scDataset takes part when it can be imported (``pip install scdataset``; it brings torch). Before
each run the page cache of its files is dropped. Beside each throughput stands how well it mixes:
entropy of a batch over 64 strata of the file, relative to a random draw. Peak memory is measured
with twice and once the cells: it must not grow.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata
import h5py
import numpy as np

from cellweave.streaming import CellFiles, CellStore, CellStream, build_store
from cellweave_rna.tokenizers import RankTokenizer


def write_cells(
    path: Path, n_cells: int, n_genes: int = 20_000, n_types: int = 8, packed: str | None = None
) -> None:
    """Write an h5ad block by block, so that memory does not grow with the cells."""
    rng = np.random.default_rng(0)
    base = rng.lognormal(0, 1.5, n_genes)
    cumulative = [
        np.cumsum(w / w.sum())
        for w in (base * rng.lognormal(0, 0.5, n_genes) for _ in range(n_types))
    ]
    obs = {"type": np.arange(n_cells) * n_types // n_cells}
    import pandas as pd

    shell = anndata.AnnData(
        obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]),
    )
    shell.write_h5ad(path)
    with h5py.File(path, "a") as file:
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = (n_cells, n_genes)
        how = {"maxshape": (None,), "chunks": (1 << 16,), "compression": packed}
        data = group.create_dataset("data", (0,), "f4", **how)
        indices = group.create_dataset("indices", (0,), "i4", **how)
        indptr, done = [0], 0
        for start in range(0, n_cells, 2000):
            rows = []
            for i in range(start, min(start + 2000, n_cells)):
                n = int(np.clip(rng.lognormal(7.9, 0.5), 200, 9000))
                drawn = np.searchsorted(cumulative[obs["type"][i]], rng.random(n))
                rows.append(np.unique(drawn, return_counts=True))
            columns = np.concatenate([r[0] for r in rows])
            data.resize((done + len(columns),))
            indices.resize((done + len(columns),))
            data[done:] = np.concatenate([r[1] for r in rows])
            indices[done:] = columns
            indptr += [indptr[-1] + n for n in np.cumsum([len(r[0]) for r in rows]).tolist()]
            done += len(columns)
        group.create_dataset("indptr", data=np.asarray(indptr, dtype=np.int64))


def drop_cache(path: Path) -> None:
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def timed(batches, limit: float) -> np.ndarray:
    """Return cells a second of the clock, and of CPU time, over an epoch or ``limit`` seconds."""
    start, used, cells = time.perf_counter(), time.process_time(), 0
    for n in batches:
        cells += n
        if time.perf_counter() - start > limit:
            break
    return cells / np.array([time.perf_counter() - start, time.process_time() - used])


def anndata_rows(path: Path, batch: int, block: int):
    backed = anndata.read_h5ad(path, backed="r")
    rng = np.random.default_rng(0)
    blocks = rng.permutation(backed.n_obs // block)
    per = max(batch // block, 1)
    for first in range(0, len(blocks), per):
        rows = (blocks[first : first + per, None] * block + np.arange(block)).ravel()
        yield backed[np.sort(rows)].to_memory().n_obs


class _Rows:
    """A backed matrix with a length, which scDataset asks for."""

    def __init__(self, matrix) -> None:
        self.matrix = matrix

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, rows):
        return self.matrix[rows]


def scdataset_rows(path: Path, batch: int, block: int, fetch: int):
    from scdataset import BlockShuffling, scDataset

    matrix = _Rows(anndata.read_h5ad(path, backed="r").X)
    data = scDataset(matrix, BlockShuffling(block_size=block), batch_size=batch, fetch_factor=fetch)
    for found in data:
        yield found.shape[0]


def mixing(batches, n_cells: int, strata: int = 64) -> float:
    """Return the mean entropy of strata of the file in batches over that of random batches."""
    codes, rng = np.arange(n_cells) * strata // n_cells, np.random.default_rng(0)

    def entropy(cells) -> float:
        share = np.bincount(codes[cells]) / len(cells)
        return float(-(share[share > 0] * np.log(share[share > 0])).sum())

    batches = [b for b in batches if len(b) > 1][:200]
    random = [rng.choice(n_cells, len(b), replace=False) for b in batches]
    return np.mean([entropy(b) for b in batches]) / np.mean([entropy(b) for b in random])


def anndata_cells(n_cells: int, batch: int, block: int):
    """Say which cells the batches of :func:`anndata_rows` hold."""
    blocks = np.random.default_rng(0).permutation(n_cells // block)
    per = max(batch // block, 1)
    for first in range(0, len(blocks), per):
        yield (blocks[first : first + per, None] * block + np.arange(block)).ravel()


def scdataset_cells(n_cells: int, batch: int, block: int, fetch: int):
    """Say which cells the batches of :func:`scdataset_rows` hold."""
    from scdataset import BlockShuffling, scDataset

    yield from scDataset(
        np.arange(n_cells), BlockShuffling(block_size=block), batch_size=batch, fetch_factor=fetch
    )


def peak_of(path: Path, n_cells: int) -> float:
    """Return the peak memory (GB) of a process that streams ``n_cells`` into tokens."""
    code = (
        f"import runpy; m = runpy.run_path({__file__!r}, run_name='part'); "
        f"m['stream_alone']({str(path)!r}, {n_cells})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def stream_alone(path: str, n_cells: int) -> None:
    store = CellStore(path)
    tokenizer = unit_rank(store.features)
    seen = 0
    for epoch in range(10_000):
        for tokens in CellStream(store, seed=epoch).tokens(tokenizer, epoch=epoch):
            seen += tokens.n_cells
            if seen >= n_cells:
                print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
                return


def unit_rank(features: np.ndarray) -> RankTokenizer:
    ids = {"<pad>": 0} | {str(n): i + 1 for i, n in enumerate(features)}
    return RankTokenizer.from_tables(ids, special={"pad": "<pad>"}, target_sum=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gzip", action="store_true", help="pack the h5ad, as archives do")
    parser.add_argument("--memory-cells", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "cells.h5ad", Path(folder) / "store"
        write_cells(path, arguments.cells, packed="gzip" if arguments.gzip else None)
        start = time.perf_counter()
        store = build_store([path], out)
        built = time.perf_counter() - start
        tokenizer = unit_rank(store.features)
        files = CellFiles([path])
        ours = {"batch_size": 1024, "block": 64, "blocks_per_window": 256}
        of_store, of_files = CellStream(store, **ours), CellStream(files, **ours)
        contenders = {
            "ours, store, block 64 of 16384": lambda: (
                b.matrix.shape[0] for b in of_store.batches()
            ),
            "ours, store to rank tokens": lambda: (t.n_cells for t in of_store.tokens(tokenizer)),
            "ours, h5ad aligned on the fly": lambda: (
                b.matrix.shape[0] for b in of_files.batches()
            ),
            "anndata backed, random rows": lambda: anndata_rows(path, 64, 1),
            "anndata backed, block 64": lambda: anndata_rows(path, 1024, 64),
        }
        try:
            import scdataset  # noqa: F401

            contenders["scDataset, block 64, fetch 16"] = lambda: scdataset_rows(path, 1024, 64, 16)
        except ImportError as error:
            print(f"scDataset does not take part: {error}")
        rates = dict.fromkeys(contenders, np.zeros(2))
        for _ in range(arguments.rounds):
            for name, make in contenders.items():
                drop_cache(path)
                drop_cache(out)
                rates[name] = np.maximum(rates[name], timed(make(), arguments.seconds))
        per_cell = store.n_values / store.n_cells
        size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
        order = CellStream(store, **ours).order(0)
        n = store.n_cells
        mixed = {
            name: mixing((order.cells(i, i + 1024) for i in range(0, n, 1024)), n)
            for name in contenders
            if name.startswith("ours")
        } | {
            "anndata backed, random rows": mixing(anndata_cells(n, 64, 1), n),
            "anndata backed, block 64": mixing(anndata_cells(n, 1024, 64), n),
        }
        if "scDataset, block 64, fetch 16" in contenders:
            mixed["scDataset, block 64, fetch 16"] = mixing(scdataset_cells(n, 1024, 64, 16), n)
        print(
            f"{store.n_cells} cells, {per_cell:.0f} values a cell; h5ad "
            f"{path.stat().st_size / 1e9:.1f}"
        )
        print(
            f"GB, store {size / 1e9:.2f} GB ({size / store.n_values:.2f} bytes a value), built in"
        )
        print(
            f"{built:.1f} s; cold page cache; best of {arguments.rounds}; "
            f"load {os.getloadavg()[0]:.1f}"
        )
        peers = {n: r for n, r in rates.items() if not n.startswith("ours")}
        print(
            f"{'cells a second of':34}{'clock':>10}{'CPU':>10}{'mixing':>8}   our ratio by clock "
            "(by CPU)"
        )
        for name, rate in rates.items():
            text = ", ".join(
                f"{rate[0] / p[0]:.1f} ({rate[1] / p[1]:.1f}) x {n}" for n, p in peers.items()
            )
            print(
                f"{name:34}{rate[0]:10,.0f}{rate[1]:10,.0f}{mixed[name]:8.3f}   "
                f"{text if name not in peers else ''}"
            )
        print(
            "mixing: entropy of batches of 1024 (64) over 64 strata of the file; 1: a random draw"
        )
        for n in (arguments.memory_cells // 2, arguments.memory_cells):
            if n:
                print(f"peak memory after {n} cells streamed to tokens: {peak_of(out, n):.2f} GB")


if __name__ == "__main__":
    main()
