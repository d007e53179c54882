"""Published families: our embedding beside transformers' and torch's own, at official sizes.

    OMP_NUM_THREADS=1 python benchmarks/bench_models.py --model geneformer-v1-10m --cells 48

Weights are random and written in the official format; both sides see the same tokens in batches of
the same size, take turns, and the best round counts, in CPU time of one thread. Ours includes
tokenising, theirs starts from tokens. "input order" is what a plain loop over batches does;
"sorted" sorts all cells by length first, as Geneformer's own extractor does (and returns them in
that order). With ``--memory N`` the growth of the peak memory is measured instead: a narrow
network, N cells.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import nn

from cellweave.records import Tokens
from cellweave_geneformer import GeneformerModel
from cellweave_scgpt import ScgptModel

GENEFORMER = {
    "geneformer-v1-10m": (6, 256, 4, 512, 2048, 25_426),
    "geneformer-v2-104m": (12, 768, 12, 3072, 4096, 20_275),
    "geneformer-v2-316m": (18, 1152, 18, 4608, 4096, 20_275),
    "geneformer-tiny": (2, 32, 2, 64, 2048, 25_426),
}
SCGPT = {
    "scgpt-whole-human": (12, 512, 8, 512, 1200, 60_697),
    "scgpt-tiny": (2, 32, 2, 32, 1200, 60_697),
}


def cells(n: int, names: list[str], longest: int, seed: int = 0) -> anndata.AnnData:
    """Return raw counts; the numbers of genes of cells spread as in real data."""
    rng = np.random.default_rng(seed)
    middle = 0.45 * longest
    lengths = np.clip(rng.lognormal(np.log(middle), 0.5, n), 50, longest * 1.2).astype(int)
    rows = [np.sort(rng.choice(len(names), size, replace=False)) for size in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    data = (1 + rng.negative_binomial(0.5, 0.1, indptr[-1])).astype(np.float32)
    matrix = sp.csr_matrix((data, np.concatenate(rows), indptr), shape=(n, len(names)))
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    return anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=names))


def geneformer(folder: Path, sizes: tuple[int, ...]) -> tuple[GeneformerModel, nn.Module, list]:
    from transformers import BertConfig, BertForMaskedLM

    depth, width, heads, hidden, longest, n_ids = sizes
    config = BertConfig(
        vocab_size=n_ids, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
        intermediate_size=hidden, max_position_embeddings=longest, hidden_act="relu",
        pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    reference = BertForMaskedLM(config).eval()
    reference.save_pretrained(folder)
    special = ["<pad>", "<mask>"] + (["<cls>", "<eos>"] if n_ids == 20_275 else [])
    genes = [f"ENSG{i:011}" for i in range(n_ids - len(special))]
    ids = {name: i for i, name in enumerate([*special, *genes])}
    (folder / "token_dictionary.json").write_text(json.dumps(ids))
    medians = dict(zip(genes, np.random.default_rng(1).lognormal(0, 1, len(genes)).tolist()))
    (folder / "gene_median_dictionary.json").write_text(json.dumps(medians))
    return GeneformerModel.load(folder), reference.bert, genes


def scgpt(folder: Path, sizes: tuple[int, ...]) -> tuple[ScgptModel, nn.Module, list]:
    depth, width, heads, hidden, longest, n_ids = sizes
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.0, batch_first=True)
    reference = nn.TransformerEncoder(layer, depth).eval()
    state = {f"transformer_encoder.{k}": v for k, v in reference.state_dict().items()}
    state["encoder.embedding.weight"] = torch.randn(n_ids, width)
    for stem, rows in (("linear1", 1), ("linear2", width)):
        state[f"value_encoder.{stem}.weight"] = torch.randn(width, rows) * rows**-0.5
        state[f"value_encoder.{stem}.bias"] = torch.zeros(width)
    for stem in ("encoder.enc_norm", "value_encoder.norm"):
        state |= {f"{stem}.weight": torch.ones(width), f"{stem}.bias": torch.zeros(width)}
    torch.save(state, folder / "best_model.pt")
    arguments = {"embsize": width, "nheads": heads, "d_hid": hidden, "nlayers": depth}
    (folder / "args.json").write_text(json.dumps(arguments | {"max_seq_len": longest}))
    genes = [f"GENE{i}" for i in range(n_ids - 3)]
    (folder / "vocab.json").write_text(json.dumps({g: i for i, g in enumerate(genes)}))
    return ScgptModel.load(folder), reference, genes


def padded_run(tokens: Tokens, batch_size: int, *, by_length: bool, states: Callable) -> np.ndarray:
    """Embed as a plain loop does: batches padded to their longest; the first token's state."""
    order = np.argsort(-tokens.lengths, kind="stable") if by_length else np.arange(tokens.n_cells)
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        out = states(*tokens.take(rows).padded(pad_id=0, pad_value=-2.0))
        found |= dict(zip(rows.tolist(), out))
    return np.stack([found[i] for i in range(tokens.n_cells)])


def reference_states(name: str, model: object, reference: nn.Module) -> Callable:
    def bert(ids: np.ndarray, _: np.ndarray, is_token: np.ndarray) -> np.ndarray:
        out = reference(
            input_ids=torch.from_numpy(ids.astype(np.int64)),
            attention_mask=torch.from_numpy(is_token.astype(np.int64)),
            output_hidden_states=True,
        )
        return out.hidden_states[-2][:, 0].numpy()

    def encoder(ids: np.ndarray, values: np.ndarray, is_token: np.ndarray) -> np.ndarray:
        genes = model.network.genes(torch.from_numpy(ids.astype(np.int64)))  # type: ignore[attr-defined]
        rows = genes + model.network.values(torch.from_numpy(values))  # type: ignore[attr-defined]
        return reference(rows, src_key_padding_mask=torch.from_numpy(~is_token))[:, 0].numpy()

    return bert if name in GENEFORMER else encoder


def best(compute: Callable, rounds: int) -> tuple[float, np.ndarray]:
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        with torch.inference_mode():
            out = compute()
        seconds.append(time.process_time() - start)
    return min(seconds), out


def compare(name: str, n_cells: int, batch_size: int, rounds: int, longest: int) -> None:
    sizes = GENEFORMER.get(name) or SCGPT[name]
    with tempfile.TemporaryDirectory() as folder:
        make = geneformer if name in GENEFORMER else scgpt
        model, reference, genes = make(Path(folder), sizes)
    data = cells(n_cells, genes, min(longest or sizes[4], sizes[4]))
    extra = {"layer": -1} if name in GENEFORMER else {"normalise": False}
    pooled = {"pooling": "cls"} if sizes[5] == 20_275 or name in SCGPT else {"pooling": "cell"}
    many = cells(1000, genes, sizes[4])
    model.tokenizer.encode(many[:2])
    tokenising, _ = best(lambda: model.tokenizer.encode(many), rounds)
    tokens = model.tokenizer.encode(data)
    states = reference_states(name, model, reference)
    contenders = {
        "ours": lambda: model.embed(data, batch_size=batch_size, **extra, **pooled).values,
        "padded, sorted": lambda: padded_run(tokens, batch_size, by_length=True, states=states),
        "padded, input order": lambda: padded_run(
            tokens, batch_size, by_length=False, states=states
        ),
    }
    results = {label: best(compute, rounds) for label, compute in contenders.items()}
    lengths = tokens.lengths
    print(
        f"{name}: {n_cells} cells, {lengths.min()}-{lengths.max()} tokens (mean "
        f"{lengths.mean():.0f}), batches of {batch_size}, {torch.get_num_threads()} thread(s)"
    )
    print(f"  tokenising 1000 such cells: {1000 / tokenising:,.0f} cells/s")
    ours = results["ours"][0]
    for label, (seconds, _) in results.items():
        print(f"  {label:22s} {n_cells / seconds:8.2f} cells/s   ours is {seconds / ours:.2f}×")
    if pooled["pooling"] == "cls":
        gap = np.abs(results["ours"][1] - results["padded, sorted"][1]).max()
    else:  # V1 pools all tokens; compare the first token's state instead
        from cellweave_nn.batch import TokenBatch

        part = tokens.take(np.arange(min(2, n_cells)))
        with torch.inference_mode():
            mine = model.network(TokenBatch.from_tokens(part), depth=sizes[0] - 1)
        gap = np.abs(mine[part.offsets[:-1]].numpy() - results["padded, sorted"][1][:2]).max()
    print(f"  largest difference of the first token's state: {gap:.2e}")


def memory(name: str, n_cells: int) -> None:
    """Say how much the peak grows from a hundredth of the cells to all of them."""
    sizes = GENEFORMER.get(name) or SCGPT[name]
    with tempfile.TemporaryDirectory() as folder:
        make = geneformer if name in GENEFORMER else scgpt
        model, _, genes = make(Path(folder), sizes)
    data = cells(n_cells, genes[:3000], 60)
    model.embed(data[: n_cells // 100])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = model.embed(data).values
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{name}: {n_cells} cells, peak {after / 1024:.0f} MiB, {(after - before) / 1024:.0f} MiB "
        f"above that of {n_cells // 100} cells; the vectors alone are {values.nbytes / 2**20:.0f} "
        "MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=[*GENEFORMER, *SCGPT], default="geneformer-v1-10m")
    parser.add_argument("--cells", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--longest", type=int, default=0, help="Shorter cells than the model's.")
    parser.add_argument("--memory", type=int, default=0, metavar="CELLS")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if given.memory:
        memory(given.model, given.memory)
    else:
        compare(given.model, given.cells, given.batch_size, given.rounds, given.longest)


if __name__ == "__main__":
    main()
