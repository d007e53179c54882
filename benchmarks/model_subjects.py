"""What ``bench_models.py`` compares: each family at its published sizes, and the path beside it.

Weights are random and written in the official format. Beside our model stand the plain padded
network, from transformers or torch with the same tensors, and a tokenizer that loops over cells as
the official one does.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numba import njit
from safetensors.torch import save_file
from torch import nn

from cellweave.records import Tokens
from cellweave_geneformer import GeneformerModel
from cellweave_genemamba import GenemambaModel
from cellweave_nicheformer import NicheformerModel
from cellweave_scfoundation import ScfoundationModel
from cellweave_scgpt import ScgptModel

__all__ = ["SUBJECTS", "Subject"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One family at one size.

    Parameters
    ----------
    model
        Ours, read from the official format.
    genes
        Names that its tokenizer knows.
    longest
        Most tokens of a cell.
    padded
        Vectors of some cells by the plain padded network, as ``embed`` gives them.
    ids_plainly
        What the official tokenizer does to the raw counts, step by step in its own containers
        (dense rows, tables, tensors, padded batches), one result a cell. Names of genes are
        looked up on neither side, and no file is written.
    ours
        Arguments of ``embed``.
    obs
        Columns of ``obs`` that the tokenizer needs.
    at_once
        Cells that are tokenised at once.
    """

    model: Any
    genes: list[str]
    longest: int
    padded: Callable[[Tokens], np.ndarray]
    ids_plainly: Callable[[anndata.AnnData], Iterator[np.ndarray]]
    ours: dict[str, Any] = field(default_factory=dict)
    obs: dict[str, str] = field(default_factory=dict)
    at_once: int = 2000


def geneformer(
    folder: Path, depth: int, width: int, heads: int, hidden: int, longest: int, n_ids: int
) -> Subject:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=n_ids, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
        intermediate_size=hidden, max_position_embeddings=longest, hidden_act="relu",
        pad_token_id=0,
    )  # fmt: skip
    reference = BertForMaskedLM(config).eval()
    reference.save_pretrained(folder)
    framed = n_ids == 20_275
    special = ["<pad>", "<mask>"] + (["<cls>", "<eos>"] if framed else [])
    genes = [f"ENSG{i:011}" for i in range(n_ids - len(special))]
    ids = {name: i for i, name in enumerate([*special, *genes])}
    (folder / "token_dictionary.json").write_text(json.dumps(ids))
    medians = np.random.default_rng(1).lognormal(0, 1, len(genes))
    (folder / "gene_median_dictionary.json").write_text(
        json.dumps(dict(zip(genes, medians.tolist())))
    )

    def padded(tokens: Tokens) -> np.ndarray:
        ids, _, is_token = tokens.padded(pad_id=0)
        mask = torch.from_numpy(is_token.astype(np.int64))
        out = reference.bert(
            input_ids=torch.from_numpy(ids.astype(np.int64)),
            attention_mask=mask,
            output_hidden_states=True,
        ).hidden_states[-2]
        return (out[:, 0] if framed else masked_mean(out, mask)).numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[np.ndarray]:
        # Chunks of 512, sparse throughout; a row is cut out of the matrix twice, as upstream does.
        place = np.arange(len(genes)) + len(special)
        totals = np.asarray(adata.X.sum(1))
        for start in range(0, adata.n_obs, 512):
            part = adata.X[start : start + 512]
            scaled = part.multiply(1 / totals[start : start + 512]) * 10_000
            scaled = sp.csr_matrix(scaled.multiply(1 / medians))
            for i in range(scaled.shape[0]):
                values, columns = scaled[i].data, scaled[i].indices
                ids = place[columns][np.argsort(-values)][: longest - 2 * framed]
                yield np.concatenate([[2], ids, [3]]) if framed else ids

    return Subject(
        model=GeneformerModel.load(folder), genes=genes, longest=longest, padded=padded,
        ids_plainly=plainly, ours={"layer": -1, "pooling": "cls" if framed else "cell"},
    )  # fmt: skip


def scgpt(
    folder: Path, depth: int, width: int, heads: int, hidden: int, longest: int, n_ids: int
) -> Subject:
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
    model = ScgptModel.load(folder)

    def padded(tokens: Tokens) -> np.ndarray:
        ids, values, is_token = tokens.padded(pad_id=0, pad_value=-2.0)
        rows = model.network.genes(torch.from_numpy(ids.astype(np.int64)))
        rows = rows + model.network.values(torch.from_numpy(values))
        return reference(rows, src_key_padding_mask=torch.from_numpy(~is_token))[:, 0].numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[np.ndarray]:
        # The whole matrix made dense, then row by row: expressed genes, bins, a random choice of
        # genes where they are too many, and padded batches of 64.
        dense, names = adata.X.toarray(), np.arange(adata.n_vars)
        rng, batch = np.random.default_rng(0), []
        for i in range(len(dense)):
            seen = np.nonzero(dense[i])[0]
            ids = torch.from_numpy(np.insert(names[seen], 0, n_ids - 2)).long()
            values = torch.from_numpy(np.insert(dense[i][seen], 0, -2.0)).float()
            counts = values[1:].numpy()
            edges = np.quantile(counts, np.linspace(0, 1, 50))
            low, high = np.digitize(counts, edges), np.digitize(counts, edges, right=True)
            bins = np.ceil(rng.random(len(low)) * (high - low) + low).astype(np.int64)
            values[1:] = torch.from_numpy(bins).float()
            if len(ids) > longest:
                kept = torch.cat([torch.zeros(1).long(), 1 + torch.randperm(len(ids) - 1)])
                ids, values = ids[kept[:longest]], values[kept[:longest]]
            batch.append((ids, values))
            if len(batch) == 64 or i == len(dense) - 1:
                for part, value in ((0, n_ids - 3), (1, -2.0)):
                    padded = nn.utils.rnn.pad_sequence([b[part] for b in batch], True, value)
                yield from padded
                batch = []

    return Subject(
        model=model, genes=genes, longest=longest, padded=padded, ids_plainly=plainly,
        ours={"normalise": False, "pooling": "cls"},
    )  # fmt: skip


def scfoundation(
    folder: Path, depth: int, width: int, heads: int, hidden: int, longest: int, n_ids: int
) -> Subject:
    genes = [f"GENE{i}" for i in range(n_ids)]
    every = anndata.AnnData(np.ones((1, n_ids), dtype=np.float32))
    every.var_names = genes
    made = ScfoundationModel.untrained(
        every, depth=depth, width=width, heads=heads, hidden=hidden,
        decoder_width=width * 2 // 3, decoder_depth=depth // 2, decoder_heads=heads * 2 // 3,
    )  # fmt: skip
    state = {published_name(k): v for k, v in made.network.state_dict().items()}
    part = {"config": {}, "state_dict": {f"model.{k}": v for k, v in state.items()}}
    torch.save({"cell": part}, folder / "models.ckpt")
    (folder / "gene_index.tsv").write_text("\n".join(genes))
    layers = nn.ModuleList(
        nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True) for _ in range(depth)
    ).eval()
    stem = "encoder.transformer_encoder."
    layers.load_state_dict({k.removeprefix(stem): v for k, v in state.items() if stem in k})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ScfoundationModel.load(folder)

    def padded(tokens: Tokens) -> np.ndarray:
        ids, values, is_token = tokens.padded(pad_id=103, pad_value=103.0)
        network, mask = model.network, torch.from_numpy(~is_token)
        x = network.values(torch.from_numpy(values))
        x = x + network.places(torch.from_numpy(ids.astype(np.int64)))
        for layer in layers:
            x = layer(x, src_key_padding_mask=mask)
        rows = []
        for cell, n in zip(network.norm(x), tokens.lengths.tolist()):
            body = cell[: n - 2]
            rows.append(torch.cat([cell[n - 1], cell[n - 2], body.max(0)[0], body.mean(0)]))
        return torch.stack(rows).numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[np.ndarray]:
        # A dense table; a cell's values pass through a list, and the positive ones are gathered.
        table = pd.DataFrame(adata.X.toarray())
        for i in range(len(table)):
            row = table.iloc[i, :]
            total = row.sum()
            values = np.log1p(row / total * 1e4).tolist()
            values = torch.tensor([*values, 4.0, np.log10(total)]).unsqueeze(0)
            yield torch.nonzero(values[0] > 0).squeeze(1).numpy()

    return Subject(
        model=model, genes=genes, longest=longest, padded=padded, ids_plainly=plainly,
        ours={"pooling": "all"},
    )  # fmt: skip


def nicheformer(
    folder: Path, depth: int, width: int, heads: int, hidden: int, longest: int, n_ids: int
) -> Subject:
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, 0.0, batch_first=True, layer_norm_eps=1e-12
    )
    encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).eval()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state["embeddings.weight"] = torch.randn(n_ids + 5, width)
    state["positional_embedding.weight"] = torch.randn(longest, width)
    state["classifier_head.weight"] = torch.randn(n_ids, width)
    state["classifier_head.bias"] = torch.zeros(n_ids)
    settings = {"nheads": heads, "specie": True, "assay": True, "modality": True}
    content = {"state_dict": state, "hyper_parameters": settings}
    torch.save(content, folder / "nicheformer.ckpt")
    genes = [f"ENSG{i:011}" for i in range(n_ids - 30)]
    (folder / "vocab.json").write_text(json.dumps({g: i + 30 for i, g in enumerate(genes)}))
    mean = np.random.default_rng(1).lognormal(0, 1, len(genes))
    np.save(folder / "dissociated_mean_script.npy", mean)

    def padded(tokens: Tokens) -> np.ndarray:
        ids = np.ones((tokens.n_cells, longest), dtype=np.int64)
        short, _, _ = tokens.padded(pad_id=1)
        ids[:, : short.shape[1]] = short
        mask = torch.from_numpy(ids == 1)
        rows = state["embeddings.weight"][torch.from_numpy(ids)]
        x = rows + state["positional_embedding.weight"]
        for block in encoder.layers:
            x = block(x, src_key_padding_mask=mask)
        return x[:, 3:].mean(1).numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[np.ndarray]:
        # Chunks of 1000, dense, every step over all genes; a compiled loop ranks and pads to 4096.
        for start in range(0, adata.n_obs, 1000):
            x = np.nan_to_num(adata.X[start : start + 1000].toarray()).copy()
            totals = x.sum(axis=1, keepdims=True)
            x = x * (10_000 / (totals + (totals == 0)))
            ranked = _ranked_densely(x / mean[None], 4096).astype(np.int32)
            front = np.tile([5, 11, 3], (len(x), 1))
            yield from np.concatenate([front, ranked], axis=1)[:, :longest]

    return Subject(
        model=NicheformerModel.load(folder), genes=genes, longest=longest, padded=padded,
        ids_plainly=plainly, ours={"pooling": "mean"},
        obs={"species": "human", "assay": "10x 3' v3", "modality": "dissociated"},
    )  # fmt: skip


def genemamba(folder: Path, depth: int, width: int, longest: int, n_ids: int) -> Subject:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=width, expand=2, num_heads=2 * width // 64, head_dim=64, state_size=64,
        n_groups=1, conv_kernel=4, use_bias=False, use_conv_bias=True,
    )  # fmt: skip
    mixers = nn.ModuleList(Mamba2Mixer(config, layer_idx=i) for i in range(depth)).eval()
    state = {
        f"mamba_mixer.layers.{k.replace('.', '.mamba.', 1)}": v.clone()
        for k, v in mixers.state_dict().items()
    }
    state["embeddings.weight"] = torch.randn(n_ids, width)
    state["norm_f.weight"] = torch.ones(width)
    save_file(state, folder / "model.safetensors")
    settings = {"mode": "mean", "max_position_embeddings": longest}
    (folder / "config.json").write_text(json.dumps(settings))
    genes = [f"ENSG{i:011}" for i in range(n_ids - 2)]
    words = {name: i for i, name in enumerate(["[UNK]", "[PAD]", *genes])}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}))
    norm = nn.RMSNorm(width, eps=1e-5)

    def padded(tokens: Tokens) -> np.ndarray:
        ids, _, is_token = tokens.padded(pad_id=1)
        x = state["embeddings.weight"][torch.from_numpy(ids.astype(np.int64))]
        counts, places = torch.from_numpy(tokens.lengths)[:, None], torch.arange(ids.shape[1])
        turned = torch.where(torch.from_numpy(is_token), counts - 1 - places, places)
        turned = turned.unsqueeze(-1).expand_as(x)
        for mixer in mixers:
            backward = mixer(x.gather(1, turned)).gather(1, turned)
            x = (mixer(x) + x + backward + x) / 2
        return masked_mean(norm(x), torch.from_numpy(is_token)).numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[np.ndarray]:
        # All genes of a dense row are sorted, and the names of the first looked up one by one.
        names, index = np.array(genes), words
        for row in adata.X:
            order = np.argsort(-row.toarray().ravel())
            yield np.array([index[name] for name in names[order[:longest]]])

    return Subject(
        model=GenemambaModel.load(folder), genes=genes, longest=longest, padded=padded,
        ids_plainly=plainly, ours={"pooling": "mean"},
    )  # fmt: skip


@njit(cache=True)
def _ranked_densely(x: np.ndarray, length: int) -> np.ndarray:
    """Rank the genes of each row, padded with zeros to one length, as numbers of 64 bits."""
    out = np.empty((x.shape[0], length))
    for i in range(len(x)):
        seen = np.nonzero(x[i])[0]
        ranked = seen[np.argsort(-x[i][seen])][:length] + 30
        row = np.zeros(length, dtype=np.int32)
        row[: len(ranked)] = ranked.astype(np.int32)
        out[i, :] = row
    return out


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.to(states.dtype).unsqueeze(-1)
    return (states * weights).sum(1) / weights.sum(1)


def published_name(name: str) -> str:
    """Give a tensor of our scFoundation the name that its authors gave it."""
    pairs = (
        ("values.score.", "token_emb.mlp."),
        ("values.mix.", "token_emb.mlp2."),
        ("values.bins.", "token_emb.emb."),
        ("values.mask.", "token_emb.emb_mask."),
        ("values.pad.", "token_emb.emb_pad."),
        ("places.", "pos_emb."),
        ("decoder.narrow.", "decoder_embed."),
        ("decoder.inner_norm.", "decoder.norm."),
        ("decoder.norm.", "norm."),
        ("decoder.out.", "to_final."),
        ("norm.", "encoder.norm."),
    )
    for ours, theirs in pairs:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    in_block = {
        "attention.qkv.": "self_attn.in_proj_",
        "attention.out.": "self_attn.out_proj.",
        "feedforward.up.": "linear1.",
        "feedforward.down.": "linear2.",
    }
    stem = "encoder.transformer_encoder."
    if name.startswith("decoder."):
        stem = "decoder.performer.net.layers."
        name = name.removeprefix("decoder.")
        in_block = {
            "norm1.": "0.norm.",
            "norm2.": "1.norm.",
            "attention.kernel.": "0.fn.fast_attention.",
            "attention.query.": "0.fn.to_q.",
            "attention.key.": "0.fn.to_k.",
            "attention.value.": "0.fn.to_v.",
            "attention.out.": "0.fn.to_out.",
            "feedforward.up.": "1.fn.fn.w1.",
            "feedforward.down.": "1.fn.fn.w2.",
        }
    _, index, rest = name.split(".", 2)
    for ours, theirs in in_block.items():
        if rest.startswith(ours):
            rest = theirs + rest.removeprefix(ours)
            break
    return f"{stem}{index}.{rest}"


SUBJECTS: dict[str, tuple[Callable[..., Subject], tuple[int, ...]]] = {
    "geneformer-v1-10m": (geneformer, (6, 256, 4, 512, 2048, 25_426)),
    "geneformer-v2-104m": (geneformer, (12, 768, 12, 3072, 4096, 20_275)),
    "geneformer-v2-316m": (geneformer, (18, 1152, 18, 4608, 4096, 20_275)),
    "geneformer-tiny": (geneformer, (2, 32, 2, 64, 2048, 25_426)),
    "scgpt-whole-human": (scgpt, (12, 512, 8, 512, 1200, 60_697)),
    "scgpt-tiny": (scgpt, (2, 32, 2, 32, 1200, 60_697)),
    "scfoundation": (scfoundation, (12, 768, 12, 3072, 4000, 19_264)),
    "scfoundation-tiny": (scfoundation, (2, 48, 3, 64, 4000, 19_264)),
    "nicheformer": (nicheformer, (12, 512, 16, 1024, 1500, 20_340)),
    "nicheformer-tiny": (nicheformer, (2, 32, 2, 64, 1500, 20_340)),
    "genemamba-24l-512d": (genemamba, (24, 512, 2048, 25_426)),
    "genemamba-tiny": (genemamba, (2, 64, 2048, 25_426)),
}
