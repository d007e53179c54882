"""Gene–peak links of a whole genome: our join beside bioframe and a loop over genes.

Run ``python benchmarks/bench_links.py [--genes 60000] [--peaks 300000]``. The floor is one sort
and one look at the peaks: no join of unsorted intervals can do with less. Ours gives distances,
weights and the reasons of what stays unlinked, in order; bioframe's bare join only the pairs.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy is imported: all are compared on one thread

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import scipy.sparse as sp  # noqa: E402

from cellweave.linking import DistanceRule, Regions, link_by_distance, regions_of  # noqa: E402
from cellweave.linking.distance import gene_intervals  # noqa: E402
from cellweave.records import LinkRequest  # noqa: E402

# Lengths of the human chromosomes, in millions of bases.
LENGTHS = [
    248,
    242,
    198,
    190,
    182,
    171,
    159,
    145,
    138,
    134,
    135,
    133,
    114,
    107,
    102,
    90,
    83,
    80,
    59,
    64,
    47,
    51,
    156,
    57,
]
NAMES = [*map(str, range(1, 23)), "X", "Y"]


def genome(n: int, longest: int, rng: np.random.Generator) -> Regions:
    share = np.array(LENGTHS) / sum(LENGTHS)
    at = rng.choice(len(NAMES), n, p=share)
    starts = (rng.random(n) * np.array(LENGTHS)[at] * 1e6).astype(np.int64)
    lengths = (
        np.minimum(rng.lognormal(np.log(longest / 20), 1.4, n), longest).astype(np.int64) + 100
    )
    return Regions(
        chrom=np.array(NAMES, dtype=object)[at],
        starts=starts,
        ends=starts + lengths,
        strand=rng.choice(np.array(["+", "-"], dtype=object), n),
    )


def with_bioframe(genes: Regions, peaks: Regions, rule: DistanceRule) -> int:
    import bioframe

    placed = gene_intervals(genes, rule)
    frames = [
        pd.DataFrame({"chrom": r.chrom, "start": r.starts, "end": r.ends}) for r in (placed, peaks)
    ]
    frames[0]["start"] = np.maximum(frames[0]["start"] - rule.reach, 0)
    frames[0]["end"] += rule.reach
    return len(bioframe.overlap(*frames, how="inner", return_index=True, return_input=False))


def with_a_loop(genes: Regions, peaks: Regions, rule: DistanceRule, n_genes: int) -> int:
    placed = gene_intervals(genes, rule)
    of = {c: np.flatnonzero(peaks.chrom == c) for c in NAMES}
    found = 0
    for g in range(n_genes):
        at = of[placed.chrom[g]]
        near = peaks.ends[at] > placed.starts[g] - rule.reach
        found += int((near & (peaks.starts[at] < placed.ends[g] + rule.reach)).sum())
    return found


def floor(peaks: Regions) -> int:
    codes = pd.factorize(peaks.chrom)[0]
    order = np.lexsort((peaks.starts, codes))
    return int((peaks.ends[order] > peaks.starts[order]).sum())


def best_of(function: Callable[[], int], times: int) -> tuple[float, int]:
    seconds = []
    for _ in range(times):
        started = time.process_time()  # one thread: what it costs, however busy the machine is
        result = function()
        seconds.append(time.process_time() - started)
    return min(seconds), result


def whole_way(n_genes: int, peaks: Regions, table: str) -> Callable[[], int]:
    """From var names and a table on disk to the checked record, as a user meets it."""
    from cellweave_atac import link_features

    names = [f"chr{c}:{s}-{e}" for c, s, e in zip(peaks.chrom, peaks.starts, peaks.ends)]
    atac = ad.AnnData(sp.csr_matrix((1, len(names)), dtype="f4"), var=pd.DataFrame(index=names))
    ids = [f"ENSG{i:011d}" for i in range(n_genes)]
    rna = ad.AnnData(sp.csr_matrix((1, n_genes), dtype="f4"), var=pd.DataFrame(index=ids))
    request = LinkRequest(
        source="rna",
        target="atac",
        source_data=rna,
        target_data=atac,
        genes=Path(table),
        method="window",
    )
    return lambda: len(link_features(request))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genes", type=int, default=60_000)
    parser.add_argument("--peaks", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    genes, peaks = genome(options.genes, 2_000_000, rng), genome(options.peaks, 6_000, rng)
    size = f"{options.genes:,} genes x {options.peaks:,} peaks"
    print(f"{size}, 1 thread, {platform.machine()}; seconds of processor time, best of some")
    print(f"{'rule':<22}{'links':>12}{'ours s':>9}{'bioframe':>10}{'loop':>9}{'floor':>8}   equal")
    bottom, _ = best_of(lambda: floor(peaks), options.repeats)
    rules = {
        "combined, overlap": DistanceRule(),
        "promoter, 150 kb": DistanceRule(anchor="promoter", reach=150_000),
        "gene body, 10 kb": DistanceRule(anchor="gene_body", reach=10_000),
    }
    part = min(options.genes, 1000)
    for name, rule in rules.items():
        ours, n = best_of(
            lambda rule=rule: len(link_by_distance(genes, peaks, rule).genes), options.repeats
        )
        theirs, m = best_of(lambda rule=rule: with_bioframe(genes, peaks, rule), options.repeats)
        loop, k = best_of(lambda rule=rule: with_a_loop(genes, peaks, rule, part), 1)
        loop *= options.genes / part
        mine = int((link_by_distance(genes, peaks, rule).genes < part).sum())
        print(
            f"{name:<22}{n:>12,}{ours:>9.2f}{theirs / ours:>9.1f}x{loop / ours:>8.1f}x"
            f"{ours / bottom:>7.1f}x   bioframe {n == m}, loop {mine == k}"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genes.tsv"
        frame = pd.DataFrame({"chrom": genes.chrom, "start": genes.starts + 1, "end": genes.ends})
        frame["id"] = [f"ENSG{i:011d}" for i in range(options.genes)]
        frame.assign(symbol="", strand=genes.strand).to_csv(path, sep="\t", index=False)
        seconds, n = best_of(whole_way(options.genes, peaks, str(path)), 1)
    print(f"names and table to record, window 150 kb: {n:,} links in {seconds:.1f} s")
    names = [f"chr{c}:{s}-{e}" for c, s, e in zip(peaks.chrom, peaks.starts, peaks.ends)]
    parsing, _ = best_of(lambda: len(regions_of(pd.DataFrame(index=names))), 1)
    print(f"of it, names to regions: {parsing:.1f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
