"""Simulate up to a million cells, stream them from disk into tokens, and tell the peak memory.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_million.py --folder /somewhere

Cells are simulated in blocks and written as several h5ad files. A process of its own then streams
one shuffled epoch of the first files into rank tokens, straight from the files, and says the most
memory it held. It must not grow with the cells. Nothing is left behind.
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

from cellweave.datasets import SimulationDesign, simulate_blocks
from cellweave.streaming import CellFiles, CellStream, shuffle_quality
from cellweave_rna.tokenizers import RankTokenizer


def write_shards(folder: Path, design: SimulationDesign, per_file: int) -> list[Path]:
    """Write ``per_file`` cells to each file."""
    paths, waiting = [], []
    for mdata in simulate_blocks(design, block_size=10_000):
        waiting.append(mdata.mod["rna"])
        if sum(a.n_obs for a in waiting) >= per_file:
            paths.append(folder / f"cells-{len(paths):03}.h5ad")
            anndata.concat(waiting).write_h5ad(paths[-1])
            waiting = []
    return paths


def stream_alone(*paths: str) -> None:
    """Stream one epoch into tokens, and print cells, CPU seconds, peak memory and mixing."""
    start = time.process_time()
    with CellFiles(list(paths)) as files:
        ids = {"<pad>": 0} | {str(n): i + 1 for i, n in enumerate(files.features)}
        tokenizer = RankTokenizer.from_tables(ids, special={"pad": "<pad>"}, target_sum=0)
        stream = CellStream(files, batch_size=1024)
        cells = tokens = 0
        for batch in stream.tokens(tokenizer):
            cells += batch.n_cells
            tokens += len(batch.ids)
        mixing = shuffle_quality(stream.order(0), batch_size=1024)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(cells, tokens, time.process_time() - start, peak, mixing)


def measured(paths: list[Path]) -> list[float]:
    code = (
        f"import runpy; m = runpy.run_path({__file__!r}, run_name='part'); "
        f"m['stream_alone'](*{[str(p) for p in paths]!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(v) for v in done.stdout.split()[-5:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="where the cells are written")
    parser.add_argument("--per-file", type=int, default=100_000)
    parser.add_argument("--files", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--depth", type=float, default=600.0)
    arguments = parser.parse_args()
    design = SimulationDesign(
        n_cells=arguments.per_file * max(arguments.files),
        modalities=("rna",),
        n_genes=arguments.genes,
        rna_depth=arguments.depth,
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        start = time.process_time()
        paths = write_shards(Path(folder), design, arguments.per_file)
        size = sum(p.stat().st_size for p in paths) / 1e9
        print(
            f"{design.n_cells} cells of {arguments.genes} genes simulated and written in", end=" "
        )
        print(f"{time.process_time() - start:.0f} s of CPU: {size:.2f} GB in {len(paths)} files")
        print(f"{'cells':>9}{'values a cell':>15}{'cells/s CPU':>13}{'peak GB':>9}{'mixing':>8}")
        for n in arguments.files:
            cells, tokens, seconds, peak, mixing = measured(paths[:n])
            print(
                f"{cells:9.0f}{tokens / cells:15.0f}{cells / seconds:13,.0f}{peak:9.2f}"
                f"{mixing:8.3f}",
                flush=True,
            )
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
