"""Tokens a second: our kernels, a faithful re-telling of the published loops, and the limit.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_tokenizers.py --cells 2000

All contenders see the same cells, take turns of some tens of milliseconds, and the best call of
several rounds counts, because a shared machine only ever makes a run slower. CPU time of the one
thread is measured, not the clock, so that neighbours on the machine do not count. Bins have two
published loops: the preprocessor's, which bins whole dense rows that are then cut into tokens, and
the collator's, which bins lists of non-zero values that somebody has cut before (not timed). The
limit is one pass that reads every stored byte and writes as many tokens.
"""

from __future__ import annotations

import argparse
import os
import time

import anndata
import numpy as np
import scipy.sparse as sp
from numba import njit

from cellweave_rna.tokenizers import BinTokenizer, RankTokenizer


def simulated(n_cells: int, n_genes: int, seed: int) -> anndata.AnnData:
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(7.6, 0.5, n_cells), 100, n_genes // 3).astype(int)
    weight = rng.lognormal(0, 1.5, n_genes)
    cumulative = np.cumsum(weight / weight.sum())
    rows = []
    for n in lengths:
        drawn = np.unique(np.searchsorted(cumulative, rng.random(int(1.6 * n))))
        rows.append(np.sort(rng.permutation(drawn)[:n]))
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    indices = np.concatenate(rows).astype(np.int32)
    data = (1 + rng.negative_binomial(0.3, 0.1, len(indices))).astype(np.float32)
    matrix = sp.csr_matrix((data, indices, indptr), shape=(n_cells, n_genes))
    made = anndata.AnnData(matrix)
    made.obs_names = [f"cell{i}" for i in range(n_cells)]
    made.var_names = [f"ENSG{i:011}" for i in range(n_genes)]
    made.obs["n_counts"] = np.asarray(matrix.sum(axis=1)).ravel()
    return made


def official_rank(adata: anndata.AnnData, medians: np.ndarray, tokens: np.ndarray) -> list:
    """Tokenize as Geneformer's transcriptome tokenizer does: chunks of 512, a loop over cells.

    Cells that passed the filter and genes that have a token are selected by index in each chunk.
    """
    out = []
    cells, genes_kept = np.arange(adata.n_obs), np.arange(adata.n_vars)
    for start in range(0, adata.n_obs, 512):
        chosen = cells[start : start + 512]
        part = adata[chosen, :].X[:, genes_kept]
        totals = adata[chosen].obs["n_counts"].to_numpy()[:, None]
        normalised = sp.csr_matrix(part / totals * 10_000 / medians)
        for i in range(normalised.shape[0]):
            values, genes = normalised[i].data, tokens[normalised[i].indices]
            out.append(genes[np.argsort(-values)])
    return [cell[:2048] for cell in out]


def bins_of(values: np.ndarray, edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Digitize from both sides and draw between them, as scGPT does."""
    left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
    return np.ceil(rng.random(len(values)) * (right - left) + left).astype(np.int64)


def official_bins(
    adata: anndata.AnnData, n_bins: int, tokens: np.ndarray, rng: np.random.Generator
) -> list:
    """Bin as scGPT's preprocessor does, and cut into tokens as its tokenizer does.

    It refuses negative values, asks each row whether it is empty, asserts the range of its bins,
    stacks whole rows of 64-bit bins beside their edges; then it looks for what is not zero again.
    """
    dense = adata.X.toarray()
    if dense.min() < 0:
        raise ValueError
    binned, kept_edges = [], []
    for row in dense:
        if row.max() == 0:
            raise ValueError
        found = row.nonzero()
        values = row[found]
        edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
        bins = bins_of(values, edges, rng)
        assert bins.min() >= 1
        assert bins.max() <= n_bins - 1
        whole = np.zeros_like(row, dtype=np.int64)
        whole[found] = bins
        binned.append(whole)
        kept_edges.append(np.concatenate([[0], edges]))
    np.stack(kept_edges)
    out = []
    for row in np.stack(binned):
        at = np.nonzero(row)[0]
        out.append((tokens[at], row[at]))
    return out


def official_collator(cells: list, n_bins: int, rng: np.random.Generator) -> list:
    """Bin as scGPT's collator does: one list of non-zero values after the other."""
    out = []
    for ids, values in cells:
        if values.max() == 0:
            raise ValueError
        if values.min() <= 0:
            raise ValueError
        edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
        out.append((ids, bins_of(values, edges, rng)))
    return out


@njit(cache=True)
def touch(indptr, indices, data, out):
    """Read each stored byte and write a token an entry, in vector lanes."""
    for i in range(len(indptr) - 1):
        row = slice(indptr[i], indptr[i + 1])
        columns, values, written = indices[row], data[row], out[row]
        for k in range(len(values)):
            written[k] = columns[k] + np.int32(values[k] > 0)


def best_of(rounds: int, contenders: dict) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            turn = time.thread_time()
            while time.thread_time() - turn < 0.05:
                start = time.thread_time()
                run()
                times[name].append(time.thread_time() - start)
    return {name: min(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    adata = simulated(arguments.cells, arguments.genes, 0)
    # The slow loops see a share of the cells, so that all contenders can take turns.
    few, fewer = adata[: arguments.cells // 8].copy(), adata[: arguments.cells // 40].copy()
    rng = np.random.default_rng(0)
    medians = rng.lognormal(0, 1, adata.n_vars)
    ids = {"<pad>": 0, "<mask>": 1} | {n: i + 2 for i, n in enumerate(adata.var_names)}
    rank = RankTokenizer.from_tables(
        ids,
        dict(zip(adata.var_names, medians)),
        special={"pad": "<pad>", "mask": "<mask>"},
        total="n_counts",
    )
    bins = BinTokenizer().fit(adata)
    # Ids with a gap have to be looked up; logged values are no counts and have to be sorted.
    gapped = {"<pad>": 0} | {n: 1 + i for i, n in enumerate(["<more>", *adata.var_names, "<last>"])}
    gapped |= {"<last>": gapped[adata.var_names[-1]], adata.var_names[-1]: gapped["<last>"]}
    looked_up = BinTokenizer.from_tables(
        gapped, special={"pad": "<pad>"}, not_features=["<more>", "<last>"]
    )
    logged = adata.copy()
    logged.X.data = np.log1p(logged.X.data * np.float32(1.7))
    shuffled = adata[:, rng.permutation(adata.n_vars)].copy()
    out = np.empty(adata.X.nnz, dtype=np.int32)
    tokens = np.arange(2, adata.n_vars + 2)
    rows = zip(fewer.X.indptr[:-1], fewer.X.indptr[1:])
    cut = [(tokens[fewer.X.indices[a:b]], fewer.X.data[a:b]) for a, b in rows]
    contenders = {
        "rank, official loop": lambda: official_rank(few, medians, tokens),
        "rank, ours": lambda: rank.encode(adata),
        "rank, ours, genes in another order": lambda: rank.encode(shuffled),
        "bins, official loop": lambda: official_bins(fewer, 51, tokens, rng),
        "bins, official collator, cells cut before": lambda: official_collator(cut, 51, rng),
        "bins, ours": lambda: bins.encode(adata),
        "bins, ours, published vocabulary": lambda: looked_up.encode(adata),
        "bins, ours, values logged and no counts": lambda: bins.encode(logged),
        "limit: touch each byte once": lambda: touch(
            adata.X.indptr, adata.X.indices, adata.X.data, out
        ),
    }
    for run in contenders.values():
        run()
    expected = official_rank(few, medians, tokens)
    found = rank.encode(few)
    same = np.mean(
        [
            np.array_equal(e, found.ids[a:b])
            for e, a, b in zip(expected, found.offsets[:-1], found.offsets[1:])
        ]
    )
    seconds = best_of(arguments.rounds, contenders)
    sizes = {n: fewer if n.startswith("bins") else few for n in seconds if "official" in n}
    rates = {n: sizes.get(n, adata).n_obs / s for n, s in seconds.items()}
    print(f"{adata.n_obs} cells x {adata.n_vars} genes, {adata.X.nnz / adata.n_obs:.0f} values a")
    print(
        "cell; CPU time of one thread; "
        f"NUMBA_NUM_THREADS={os.environ.get('NUMBA_NUM_THREADS', 'unset')}, load at the"
    )
    print(f"end {os.getloadavg()[0]:.1f}; best of {arguments.rounds} rounds")
    collator = rates["bins, official collator, cells cut before"]
    print(f"{'':42}{'cells/s':>12}{'ns/value':>10}{'x loop':>9}{'x collator':>12}")
    for name, rate in rates.items():
        base = rates.get(f"{name.split(',')[0]}, official loop")
        per_value = 1e9 / rate / (adata.X.nnz / adata.n_obs)
        ratio = f"{rate / base:.1f}" if base else ""
        other = f"{rate / collator:.1f}" if name.startswith("bins") else ""
        print(f"{name:42}{rate:12,.0f}{per_value:10.2f}{ratio:>9}{other:>12}")
    print(f"cells whose rank tokens equal the official loop's: {same:.4f}")


if __name__ == "__main__":
    main()
