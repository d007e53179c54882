"""Further families for ``bench_models.py``: scBERT, TOSICA, UCE, CellPLM, scMulan.

Weights are random, of the published sizes and names. Beside our model stands the published way of
computing, written out plainly on the same tensors: one cell a pass where upstream goes cell by
cell (scBERT, scMulan, which reads a sentence again for every token), padded batches (UCE), all
cells at once (TOSICA, CellPLM).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from model_subjects import Subject
from torch import nn
from torch.nn import functional as F

from cellweave.records import Tokens
from cellweave_cellplm import CellplmModel
from cellweave_scbert import ScbertModel
from cellweave_scmulan import ScmulanModel
from cellweave_tosica import TosicaModel
from cellweave_uce import UceModel

__all__ = ["MORE"]

State = dict[str, torch.Tensor]


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Fill names and shapes; scales of norms are near one."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        fan = shape[-1] if len(shape) > 1 else 400
        scale = len(shape) == 1 and name.endswith("weight")
        state[name] = 1 + 0.05 * values if scale else values * fan**-0.5
    return state


def linear(name: str, out: int, width: int, *, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, width)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def mapped(x: torch.Tensor, s: State, name: str) -> torch.Tensor:
    return F.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))


def normed(x: torch.Tensor, s: State, name: str, eps: float = 1e-5) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], eps)


def normalised(adata: anndata.AnnData) -> sp.csr_matrix:
    """Normalise to 10 000 and take log1p, sparse and all cells at once, as scanpy does."""
    x = adata.X.copy()
    totals = np.asarray(x.sum(1)).ravel()
    x.data = np.log1p(x.data * np.repeat((1e4 / totals).astype(np.float32), np.diff(x.indptr)))
    return x


def scbert(folder: Path, depth: int, width: int, heads: int, n_genes: int) -> Subject:
    shapes = linear("token_emb", 7, width, bias=False) | linear("to_out", 7, width)
    shapes |= linear("pos_emb.emb", n_genes + 1, width, bias=False) | norm("norm", width)
    for i in range(depth):
        stem = f"performer.net.layers.{i}"
        shapes |= norm(f"{stem}.0.norm", width) | norm(f"{stem}.1.norm", width)
        for c in "qkv":
            shapes |= linear(f"{stem}.0.fn.to_{c}", heads * 64, width, bias=False)
        shapes |= linear(f"{stem}.0.fn.to_out", width, heads * 64)
        shapes |= linear(f"{stem}.1.fn.fn.w1", 4 * width, width)
        shapes |= linear(f"{stem}.1.fn.fn.w2", width, 4 * width)
        shapes[f"{stem}.0.fn.fast_attention.projection_matrix"] = (266, 64)
    s = drawn(shapes)
    for i in range(depth):
        s[f"performer.net.layers.{i}.0.fn.fast_attention.projection_matrix"] *= 8
    torch.save({"model_state_dict": s, "epoch": 1}, folder / "panglao_pretrain.pth")
    genes = [f"GENE{i}" for i in range(n_genes)]
    (folder / "genes.txt").write_text("\n".join(genes))

    def features(x: torch.Tensor, r: torch.Tensor, *, key: bool) -> torch.Tensor:
        scaled = x * 64**-0.25
        found = scaled @ r.T
        top = found.amax() if key else found.amax(-1, keepdim=True)
        exponent = found - 0.5 * scaled.square().sum(-1, keepdim=True) - top
        return 266**-0.5 * (exponent.exp() + 1e-4)

    def padded(tokens: Tokens) -> np.ndarray:
        found = []
        for bins in torch.from_numpy(tokens.values).long().split(n_genes + 1):
            x = s["token_emb.weight"][bins] + s["pos_emb.emb.weight"]
            for i in range(depth):
                stem = f"performer.net.layers.{i}"
                seen = normed(x, s, f"{stem}.0.norm")
                q, k, v = (
                    mapped(seen, s, f"{stem}.0.fn.to_{c}").view(-1, heads, 64).transpose(0, 1)
                    for c in "qkv"
                )
                r = s[f"{stem}.0.fn.fast_attention.projection_matrix"]
                f_q, f_k = features(q, r, key=False), features(k, r, key=True)
                out = f_q @ (f_k.transpose(1, 2) @ v)
                out = out / (f_q @ f_k.sum(1)[..., None])
                x = x + mapped(out.transpose(0, 1).flatten(1), s, f"{stem}.0.fn.to_out")
                up = F.gelu(mapped(normed(x, s, f"{stem}.1.norm"), s, f"{stem}.1.fn.fn.w1"))
                x = x + mapped(up, s, f"{stem}.1.fn.fn.w2")
            found.append(normed(x, s, "norm")[-1].numpy())
        return np.stack(found)

    def plainly(adata: anndata.AnnData) -> Iterator[torch.Tensor]:
        # Normalised and logged (base 2) as one sparse matrix; then each row dense, cut, and long.
        logged = normalised(adata)
        logged.data /= math.log(2)
        for i in range(logged.shape[0]):
            values = logged[i].toarray()[0]
            values[values > 5] = 5
            yield torch.cat([torch.from_numpy(values).long(), torch.tensor([0])])

    return Subject(
        model=ScbertModel.load(folder), genes=genes, longest=2000, padded=padded,
        ids_plainly=plainly, ours={"pooling": "cls"}, at_once=128,
    )  # fmt: skip


def tosica(folder: Path, depth: int, width: int, heads: int, n_genes: int, sets: int) -> Subject:
    rows = width * sets
    shapes = linear("feature_embed.fe", rows, n_genes) | linear("head", 12, width)
    shapes |= norm("norm", width) | {"cls_token": (1, 1, width)}
    for i in range(depth):
        stem = f"blocks.{i}"
        shapes |= norm(f"{stem}.norm1", width) | norm(f"{stem}.norm2", width)
        shapes |= linear(f"{stem}.attn.qkv", 3 * width, width)
        shapes |= linear(f"{stem}.attn.proj", width, width)
        shapes |= linear(f"{stem}.mlp.fc1", 4 * width, width)
        shapes |= linear(f"{stem}.mlp.fc2", width, 4 * width)
    s = drawn(shapes)
    mask = np.random.default_rng(0).random((sets, n_genes)) < 0.03
    mask[-1] = True
    s["feature_embed.fe.mask"] = torch.from_numpy(np.repeat(mask, width, 0)).float()
    torch.save(s, folder / "model-9.pth")
    genes = [f"GENE{i}" for i in range(n_genes)]
    (folder / "genes.txt").write_text("\n".join(genes))
    for name, n in (("pathway", sets), ("label_dictionary", 12)):
        lines = [",0", *(f"{i},{name} {i}" for i in range(n))]
        (folder / f"{name}.csv").write_text("\n".join(lines))

    def padded(tokens: Tokens) -> np.ndarray:
        values = np.zeros((tokens.n_cells, n_genes), dtype=np.float32)
        values[np.repeat(np.arange(tokens.n_cells), tokens.lengths), tokens.ids] = tokens.values
        weight = s["feature_embed.fe.weight"] * s["feature_embed.fe.mask"]
        out = F.linear(torch.from_numpy(values), weight, s["feature_embed.fe.bias"])
        x = out.view(len(out), width, sets).transpose(1, 2)
        x = torch.cat([s["cls_token"].expand(len(x), -1, -1), x], dim=1)
        for i in range(depth):
            stem = f"blocks.{i}"
            qkv = mapped(normed(x, s, f"{stem}.norm1", 1e-6), s, f"{stem}.attn.qkv")
            q, k, v = qkv.view(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            x = x + mapped((weights @ v).transpose(1, 2).flatten(2), s, f"{stem}.attn.proj")
            up = F.gelu(mapped(normed(x, s, f"{stem}.norm2", 1e-6), s, f"{stem}.mlp.fc1"))
            x = x + mapped(up, s, f"{stem}.mlp.fc2")
        return normed(x, s, "norm", 1e-6)[:, 0].numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[torch.Tensor]:
        # Normalised as one sparse matrix, then a dense table, and batches of 50 rows.
        table = pd.DataFrame(normalised(adata).todense(), index=adata.obs_names.tolist())
        rows = torch.from_numpy(np.array(table).astype(np.float32))
        for batch in torch.utils.data.DataLoader(rows, batch_size=50):
            yield from batch

    return Subject(
        model=TosicaModel.load(folder), genes=genes, longest=n_genes, padded=padded,
        ids_plainly=plainly,
    )  # fmt: skip


def uce(
    folder: Path, depth: int, width: int, heads: int, hidden: int, vector: int, n_genes: int
) -> Subject:
    chromosomes = [*map(str, range(1, 23)), "X", "Y"]
    n_rows = 4 + n_genes + len(chromosomes)
    shapes = linear("pe_embedding", n_rows, vector, bias=False)
    for name in ("encoder", "gene_embedding_layer"):
        shapes |= linear(f"{name}.0", width, vector) | norm(f"{name}.2", width)
    for name, sizes, out in (
        ("decoder", (width, 1024, width, width), width),
        ("binary_decoder", (2 * width, 2048, 512, 128), 1),
    ):
        for i in range(3):
            shapes |= linear(f"{name}.{i}.0", sizes[i + 1], sizes[i])
            shapes |= norm(f"{name}.{i}.1", sizes[i + 1])
        shapes |= linear(f"{name}.3", out, sizes[3])
    layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.0)
    encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).eval()
    s = drawn(shapes)
    s |= {f"transformer_encoder.{k}": v for k, v in encoder.state_dict().items()}
    place = torch.arange(1536)[:, None]
    angle = place * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    s["pos_encoder.pe"] = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, None]
    torch.save(s, folder / "4layer_model.torch")
    genes = [f"GENE{i}" for i in range(n_genes)]
    (folder / "human_genes.txt").write_text("\n".join(genes))
    (folder / "species_offsets.json").write_text(json.dumps({"human": 4}))
    rng = np.random.default_rng(0)
    lies = rng.integers(0, len(chromosomes), n_genes)
    starts = rng.integers(0, 10**8, n_genes)
    lines = [f"human,{g},{chromosomes[c]},{p}" for g, c, p in zip(genes, lies, starts)]
    head = "species,gene_symbol,chromosome,start"
    (folder / "species_chrom.csv").write_text("\n".join([head, *lines]))
    model = UceModel.load(folder)
    vectors = model.network.vectors.weight.detach()

    def padded(tokens: Tokens) -> np.ndarray:
        ids, _, is_token = tokens.padded(pad_id=0)
        x = F.normalize(vectors[torch.from_numpy(ids.astype(np.int64).T)], dim=2)
        x = normed(F.gelu(mapped(x, s, "encoder.0")), s, "encoder.2") * width**0.5
        x = x + s["pos_encoder.pe"][: len(x)]
        x = encoder(x, src_key_padding_mask=torch.from_numpy(~is_token))
        for i in range(3):
            x = F.gelu(normed(mapped(x, s, f"decoder.{i}.0"), s, f"decoder.{i}.1"))
        return F.normalize(mapped(x, s, "decoder.3")[0], dim=1).numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[np.ndarray]:
        # Dense counts of 64 bits; weights are summed in a loop over all genes, as upstream does.
        counts_of = adata.X.toarray().astype(np.int64)
        for i in range(len(counts_of)):
            counts = torch.tensor(counts_of[i]).unsqueeze(0)
            weights = torch.log1p(counts)
            weights = (weights / weights.sum())[0].numpy().astype(np.float64)
            torch.where(counts[0] > 0), torch.where(counts[0] < 1)
            weights = weights / sum(weights)
            chosen = rng.choice(np.arange(n_genes), 1024, p=weights, replace=True)
            chosen = chosen[np.argsort(lies[chosen])]
            on, at = lies[chosen], starts[chosen]
            sentence, length = np.full(1536, 3), 1
            order = np.unique(on)
            rng.shuffle(order)
            for chromosome in order:
                sentence[length] = 4 + n_genes + chromosome
                here = np.where(on == chromosome)[0]
                inside = chosen[here[np.argsort(at[here])]]
                sentence[length + 1 : length + 1 + len(inside)] = 4 + inside
                length += len(inside) + 2
                sentence[length - 1] = 2
            sentence[length:] = 0
            mask = torch.cat([torch.ones(length), torch.zeros(1536 - length)])
            yield torch.from_numpy(sentence).float().long()[mask > 0].numpy()

    return Subject(
        model=model, genes=genes, longest=3000, padded=padded, ids_plainly=plainly,
    )  # fmt: skip


def cellplm(folder: Path, depth: int, width: int, heads: int, n_genes: int) -> Subject:
    inference = "latent.layers.1.inference"
    shapes = {"embedder.feat_enc.emb": (n_genes, width)} | norm("pre_latent_norm.norm", width)
    shapes |= linear("embedder.extra_linear.0", width, width)
    shapes |= norm("embedder.extra_linear.3", width)
    shapes |= linear(f"{inference}.inference_qyx.0.logits", 16, width)
    shapes |= linear(f"{inference}.inference_qzyx.0", 512, width + 16)
    shapes |= linear(f"{inference}.inference_qzyx.2.mu", 512, 512)
    parts = ("query", "key", "value", "out")
    for i in range(depth):
        stem = f"encoder.layers.{i}"
        for name in parts:
            shapes |= linear(f"{stem}.self_attn.{name}_projection", width, width)
        shapes |= linear(f"{stem}._ff_block.0", 2 * width, width)
        shapes |= linear(f"{stem}._ff_block.3", width, 2 * width)
        shapes |= norm(f"{stem}.norm1", width) | norm(f"{stem}.norm2", width)
    s = drawn(shapes)
    torch.save({"model_state_dict": s}, folder / "20230926_85M.best.ckpt")
    genes = [f"ENSG{i:011}" for i in range(n_genes)]
    settings = {
        "enc_mod": "flowformer", "enc_hid": width, "enc_layers": depth, "enc_head": heads,
        "latent_mod": "gmvae", "norm": "groupnorm", "num_clusters": 16, "post_latent_dim": 512,
        "gene_list": genes,
    }  # fmt: skip
    (folder / "20230926_85M.config.json").write_text(json.dumps(settings))

    def flow(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, e = q.sigmoid(), k.sigmoid(), 1e-6  # (H, N, K)
        n = q.shape[1]
        given = 1 / ((q + e) * (k.sum(1, keepdim=True) + e)).sum(-1, keepdim=True)
        taken = 1 / ((k + e) * (q.sum(1, keepdim=True) + e)).sum(-1, keepdim=True)
        kept = ((q + e) * ((k * taken).sum(1, keepdim=True) + e)).sum(-1, keepdim=True)
        rival = ((k + e) * ((q * given).sum(1, keepdim=True) + e)).sum(-1, keepdim=True)
        memory = k.transpose(1, 2) @ (v * rival.clamp(-1, 1).softmax(1) * n)
        return (q * given) @ memory * kept.sigmoid()

    def padded(tokens: Tokens) -> np.ndarray:
        offsets = torch.from_numpy(tokens.offsets)
        sparse = torch.sparse_csr_tensor(
            offsets, torch.from_numpy(tokens.ids.astype(np.int64)),
            torch.from_numpy(tokens.values), (tokens.n_cells, n_genes),
        )  # fmt: skip
        x = F.relu(mapped(sparse @ s["embedder.feat_enc.emb"], s, "embedder.extra_linear.0"))
        stem = "embedder.extra_linear.3"
        x = F.group_norm(x, 4, s[f"{stem}.weight"], s[f"{stem}.bias"])
        for i in range(depth):
            stem = f"encoder.layers.{i}"
            seen = normed(x, s, f"{stem}.norm1")
            q, k, v = (
                mapped(seen, s, f"{stem}.self_attn.{p}_projection")
                .view(len(x), heads, -1)
                .transpose(0, 1)
                for p in parts[:3]
            )
            out = flow(q, k, v).transpose(0, 1).flatten(1)
            x = x + mapped(out, s, f"{stem}.self_attn.out_projection")
            up = F.gelu(mapped(normed(x, s, f"{stem}.norm2"), s, f"{stem}._ff_block.0"))
            x = x + mapped(up, s, f"{stem}._ff_block.3")
        h = normed(x, s, "pre_latent_norm.norm")
        best = mapped(h, s, f"{inference}.inference_qyx.0.logits").argmax(1)
        z = torch.cat([h, F.one_hot(best, 16).float()], dim=1)
        z = F.relu(mapped(z, s, f"{inference}.inference_qzyx.0"))
        return mapped(z, s, f"{inference}.inference_qzyx.2.mu").numpy()

    def plainly(adata: anndata.AnnData) -> Iterator[torch.Tensor]:
        # All cells at once: to 64 bits, to a sparse tensor of coordinates, back to 32, logged.
        x = adata.X.astype(float)
        rows = torch.sparse_csr_tensor(x.indptr, x.indices, x.data, x.shape)
        yield torch.log1p(rows.to_sparse().float().coalesce())

    return Subject(
        model=CellplmModel.load(folder), genes=genes, longest=4000, padded=padded,
        ids_plainly=plainly,
    )  # fmt: skip


def scmulan(folder: Path, depth: int, width: int, heads: int, n_genes: int) -> Subject:
    types = [f"type {i}" for i in range(200)]
    genes = [f"GENE{i}" for i in range(n_genes)]
    tokens_ = ["<#E#>", *genes, "<PCT>", *types]
    shapes = linear("transformer.wte", len(tokens_), width, bias=False)
    shapes |= linear("transformer.wee", 11, width, bias=False) | norm("transformer.ln_f", width)
    for name in ("lm_head", "epx_head"):
        shapes |= linear(name, len(tokens_), width, bias=False)
    for i in range(depth):
        stem = f"transformer.h.{i}"
        shapes |= norm(f"{stem}.ln_1", width) | norm(f"{stem}.ln_2", width)
        shapes |= linear(f"{stem}.attn.c_attn", 3 * width, width)
        shapes |= linear(f"{stem}.attn.c_proj", width, width)
        shapes |= linear(f"{stem}.mlp.c_fc", 4 * width, width)
        shapes |= linear(f"{stem}.mlp.c_proj", width, 4 * width)
    s = drawn(shapes)
    s["transformer.wee.weight"] /= 10
    args = {"n_layer": depth, "n_head": heads, "n_embd": width, "vocab_size": len(tokens_)}
    args |= {"expression_level": 10, "ele": 1}
    torch.save({"model": s, "model_args": args}, folder / "ckpt_scMulan.pt")
    lists = {"gene_set": genes, "token_set": tokens_, "cell_type": set(types), "MCT": set()}
    torch.save(lists, folder / "meta_info.pt")
    model = ScmulanModel.load(folder)
    place = {name: i for i, name in enumerate(tokens_)}
    published = np.array([place[name] for name in model.tokenizer.vocabulary.names])

    def read(ids: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
        x = s["transformer.wte.weight"][ids] + s["transformer.wee.weight"][bins]
        for i in range(depth):
            stem = f"transformer.h.{i}"
            qkv = mapped(normed(x, s, f"{stem}.ln_1"), s, f"{stem}.attn.c_attn")
            q, k, v = qkv.view(len(x), 3, heads, -1).permute(1, 2, 0, 3)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mapped(out.transpose(0, 1).flatten(1), s, f"{stem}.attn.c_proj")
            up = mapped(normed(x, s, f"{stem}.ln_2"), s, f"{stem}.mlp.c_fc")
            x = x + mapped(F.gelu(up, approximate="tanh"), s, f"{stem}.mlp.c_proj")
        return normed(x, s, "transformer.ln_f")

    def padded(tokens: Tokens) -> np.ndarray:
        found = []
        for i in range(tokens.n_cells):
            part = tokens.take([i])
            ids = torch.from_numpy(published[part.ids])
            bins = torch.from_numpy(part.values).long()
            most = len(ids) + 3
            while len(ids) < most:
                states = read(ids, bins)
                scores = mapped(states[-1], s, "lm_head")
                scores[ids[:-1]] = float("-inf")
                best = scores.argmax()
                level = (s["epx_head.weight"][best] @ states[-1]).round().clamp(0, 10).long()
                ids, bins = torch.cat([ids, best[None]]), torch.cat([bins, level[None]])
                if best == 0:
                    break
            found.append(states[-2].numpy())
        return np.stack(found)

    def plainly(adata: anndata.AnnData) -> Iterator[np.ndarray]:
        # A dense table with names; a cell's genes pass through names, lists and a dictionary.
        table = pd.DataFrame(normalised(adata).toarray(), columns=adata.var_names)
        table.index = list(adata.obs_names)
        for cell in adata.obs_names:
            row = table.loc[cell]
            seen = row[row > 0].index.tolist()
            told = dict(zip(seen, row[seen].values))
            names, values = list(told)[::-1], list(told.values())[::-1]
            np.append(np.digitize(values, np.linspace(0, np.max(values), 11), right=True), 0)
            yield np.array([place[name] for name in [*names, "<PCT>"]])

    return Subject(
        model=model, genes=genes, longest=1000, padded=padded, ids_plainly=plainly,
    )  # fmt: skip


MORE = {
    "scbert-panglao": (scbert, (6, 200, 10, 16_906)),
    "scbert-4000": (scbert, (6, 200, 10, 4000)),
    "tosica-300": (tosica, (2, 48, 4, 3000, 301)),
    "uce-4l": (uce, (4, 1280, 20, 5120, 5120, 12_000)),
    "uce-33l": (uce, (33, 1280, 20, 5120, 5120, 12_000)),
    "cellplm-85m": (cellplm, (4, 1024, 8, 19_374)),
    "scmulan-default": (scmulan, (12, 768, 12, 20_000)),
    # Narrow ones, to measure memory.
    "scbert-tiny": (scbert, (1, 8, 1, 100)),
    "scbert-narrow": (scbert, (1, 8, 1, 16_906)),
    "tosica-tiny": (tosica, (1, 8, 2, 500, 20)),
    "uce-tiny": (uce, (1, 20, 20, 20, 8, 2000)),
    "uce-narrow": (uce, (1, 20, 20, 20, 8, 18_000)),
    "cellplm-tiny": (cellplm, (2, 32, 4, 4000)),
    "cellplm-narrow": (cellplm, (2, 32, 4, 19_374)),
    "scmulan-tiny": (scmulan, (2, 32, 4, 4000)),
    "scmulan-narrow": (scmulan, (2, 32, 4, 42_117)),
}
