"""Published families: our embedding beside transformers' and torch's own, at official sizes.

    OMP_NUM_THREADS=1 python benchmarks/bench_models.py --model geneformer-v1-10m --cells 48

Weights are random and written in the official format; both sides see the same tokens in batches of
the same size, take turns, and the best round counts, in CPU time of one thread. Ours includes
tokenising, theirs starts from tokens. "input order" is what a plain loop over batches does;
"sorted" sorts all cells by length first, as Geneformer's own extractor does (and returns them in
that order). Tokenising (alone with ``--tokens``) stands beside the steps of the official
tokenizers, names of genes looked up on neither side. With ``--memory N`` the peak memory is
measured instead: a narrow network, N cells read from a file, in a process of its own. What is
compared for each family stands in ``model_subjects.py`` and ``model_subjects_more.py``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from model_subjects import SUBJECTS as FIRST
from model_subjects import Subject
from model_subjects_more import MORE

from cellweave.records import Tokens
from cellweave.verbs.embed_file import embed_file

SUBJECTS = {**FIRST, **MORE}


def subject_of(name: str) -> Subject:
    """Write random weights in the official format, and read them."""
    make, sizes = SUBJECTS[name]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder), *sizes)


def cells(n: int, subject: Subject, longest: int, seed: int = 0) -> anndata.AnnData:
    """Return raw counts; the numbers of genes of cells spread as in real data."""
    rng = np.random.default_rng(seed)
    names = subject.genes
    middle = 0.45 * longest
    most = min(longest * 1.2, len(names))
    lengths = np.clip(rng.lognormal(np.log(middle), 0.5, n), min(50, most), most).astype(int)
    rows = [np.sort(rng.choice(len(names), size, replace=False)) for size in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    data = (1 + rng.negative_binomial(0.5, 0.1, indptr[-1])).astype(np.float32)
    matrix = sp.csr_matrix((data, np.concatenate(rows), indptr), shape=(n, len(names)))
    obs = pd.DataFrame(subject.obs, index=[f"c{i}" for i in range(n)])
    return anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=names))


def padded_run(tokens: Tokens, batch_size: int, subject: Subject, *, by_length: bool) -> np.ndarray:
    """Embed as a plain loop does: batches padded to their longest."""
    order = np.argsort(-tokens.lengths, kind="stable") if by_length else np.arange(tokens.n_cells)
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        found |= dict(zip(rows.tolist(), subject.padded(tokens.take(rows))))
    return np.stack([found[i] for i in range(tokens.n_cells)])


def best(compute: Callable, rounds: int) -> tuple[float, Any]:
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        with torch.inference_mode():
            out = compute()
        seconds.append(time.process_time() - start)
    return min(seconds), out


def last(results: Iterable[Any]) -> Any:
    """Go through all, holding one at a time, as a loop over batches does."""
    return deque(results, maxlen=1).pop()


def tokenising(subject: Subject, rounds: int) -> None:
    """Tokenise many cells at once, ours and as the official tokenizer does."""
    n_cells = subject.at_once
    many = cells(n_cells, subject, subject.longest)
    encode = subject.model.tokenizer.encode
    for compute in (encode, lambda some: list(subject.ids_plainly(some))):
        compute(many[:2])  # kernels of both are compiled
    mine, _ = best(lambda: encode(many), rounds + 2)
    theirs, _ = best(lambda: last(subject.ids_plainly(many)), rounds)
    entries = many.X.nnz
    print(
        f"  tokenising {n_cells} cells of {entries / n_cells:.0f} genes: ours "
        f"{n_cells / mine:,.0f} cells/s ({mine / entries * 1e9:.1f} ns an entry), as upstream "
        f"{n_cells / theirs:,.0f}   ours is {theirs / mine:.1f}×"
    )


def compare(name: str, n_cells: int, batch_size: int, rounds: int, longest: int) -> None:
    subject = subject_of(name)
    data = cells(n_cells, subject, min(longest or subject.longest, subject.longest))
    tokens = subject.model.tokenizer.encode(data)
    contenders = {
        "ours": lambda: subject.model.embed(data, batch_size=batch_size, **subject.ours).values,
        "padded, sorted": lambda: padded_run(tokens, batch_size, subject, by_length=True),
        "padded, input order": lambda: padded_run(tokens, batch_size, subject, by_length=False),
    }
    results = {label: best(compute, rounds) for label, compute in contenders.items()}
    lengths = tokens.lengths
    print(
        f"{name}: {n_cells} cells, {lengths.min()}-{lengths.max()} tokens (mean "
        f"{lengths.mean():.0f}), batches of {batch_size}, {torch.get_num_threads()} thread(s)"
    )
    tokenising(subject, rounds)
    ours = results["ours"][0]
    for label, (seconds, _) in results.items():
        print(f"  {label:22s} {n_cells / seconds:8.2f} cells/s   ours is {seconds / ours:.2f}×")
    gap = np.abs(results["ours"][1] - results["padded, sorted"][1]).max()
    print(f"  largest difference of the vectors: {gap:.2e}")


def memory(name: str, n_cells: int) -> None:
    """Embed a tenth of the cells and all of them from a file, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = (n_cells // 10, n_cells)
        for n in sizes:
            in_a_process(write_cells, name, n, folder)
        few, many = (in_a_process(peak_of, name, n, folder) for n in sizes)
    print(
        f"{name}: {n_cells:,} cells, {many['file']:.0f} MiB: peak {many['peak']:.0f} MiB,"
        f" for a tenth of them {few['peak']:.0f} MiB, before the first {many['start']:.0f} MiB; the"
        f" vectors alone are {many['vectors']:.0f} MiB. {n_cells / many['seconds']:,.0f} cells/s"
    )


def in_a_process(compute: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``compute`` gives in a fresh process, whose peak is its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(compute, arguments)


def peak_of(name: str, n_cells: int, folder: str) -> dict[str, float]:
    """Embed cells as ``cellweave embed`` does, and measure this process."""
    torch.set_num_threads(1)
    source = Path(folder, f"{n_cells}.h5ad")
    subject = subject_of(name)
    subject.model.embed(cells(50, subject, 100))
    start = peak()
    began = time.process_time()
    found = embed_file(source, subject.model, Path(folder, "out.h5ad"), key_added="X_model")
    seconds = time.process_time() - began
    with h5py.File(source) as file:
        stored = sum(file["X"][k].size * file["X"][k].dtype.itemsize for k in file["X"])
    return {
        "peak": peak(), "start": start, "seconds": seconds, "file": stored / 2**20,
        "vectors": found.values.nbytes / 2**20,
    }  # fmt: skip


def write_cells(name: str, n_cells: int, folder: str) -> None:
    """Write the cells in a process that ends, so that their memory is not counted."""
    subject = subject_of(name)
    cells(n_cells, subject, 400).write_h5ad(Path(folder, f"{n_cells}.h5ad"))


def peak() -> float:
    """Return the most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SUBJECTS, default="geneformer-v1-10m")
    parser.add_argument("--cells", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--longest", type=int, default=0, help="Shorter cells than the model's.")
    parser.add_argument("--tokens", action="store_true", help="Compare tokenising alone.")
    parser.add_argument("--memory", type=int, default=0, metavar="CELLS")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if given.memory:
        memory(given.model, given.memory)
    elif given.tokens:
        print(f"{given.model}:")
        tokenising(subject_of(given.model), given.rounds)
    else:
        compare(given.model, given.cells, given.batch_size, given.rounds, given.longest)


if __name__ == "__main__":
    main()
