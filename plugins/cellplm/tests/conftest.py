"""Tiny published folders of random weights with the published names."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES = 30
WIDTH, DEPTH, HEADS, HIDDEN, CLUSTERS, LATENT, MIDDLE = 16, 2, 4, 32, 5, 12, 20
SETTINGS = {
    "enc_mod": "flowformer",
    "enc_hid": WIDTH,
    "enc_layers": DEPTH,
    "enc_head": HEADS,
    "latent_mod": "gmvae",
    "post_latent_dim": LATENT,
    "num_clusters": CLUSTERS,
    "norm": "groupnorm",
    "dec_mod": "nbmlp",
}


def ensembl(n=N_GENES):
    return [f"ENSG{i:011d}" for i in range(n)]


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def shapes():
    norm = {"weight": (WIDTH,), "bias": (WIDTH,)}
    inference = "latent.layers.1.inference"
    parts = {
        "embedder.norm0": norm,
        "embedder.extra_linear.0": linear(WIDTH, WIDTH),
        "embedder.extra_linear.3": norm,
        "embedder.pe_enc": {"missing_pe": (WIDTH,)},
        "embedder.pe_enc.pe_enc": {"weight": (100, WIDTH)},
        "embedder.feat_enc": {"emb": (N_GENES, WIDTH)},
        "pre_latent_norm.norm": norm,
        f"{inference}.inference_qyx.0.logits": linear(CLUSTERS, WIDTH),
        f"{inference}.inference_qzyx.0": linear(MIDDLE, WIDTH + CLUSTERS),
        f"{inference}.inference_qzyx.2.mu": linear(LATENT, MIDDLE),
        f"{inference}.inference_qzyx.2.var": linear(LATENT, MIDDLE),
        f"{inference}.y_mu": linear(LATENT, CLUSTERS),
        f"{inference}.y_var": linear(LATENT, CLUSTERS),
        "decoder.out_layer": {"dec_disp": (N_GENES,)},
        "decoder.out_layer.dec_1": linear(24, LATENT),
    }
    for i in range(DEPTH):
        stem = f"encoder.layers.{i}"
        for name in ("query", "key", "value", "out"):
            parts[f"{stem}.self_attn.{name}_projection"] = linear(WIDTH, WIDTH)
        parts[f"{stem}._ff_block.0"] = linear(HIDDEN, WIDTH)
        parts[f"{stem}._ff_block.3"] = linear(WIDTH, HIDDEN)
        parts[f"{stem}.norm1"] = parts[f"{stem}.norm2"] = norm
    return {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}


def random_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes().items():
        drawn = 0.3 * torch.randn(shape, generator=generator)
        scale = len(shape) == 1 and name.endswith("weight")
        state[name] = 1 + drawn if scale else drawn
    return state


def publish(folder, state=None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_state() if state is None else state
    content = {"model_state_dict": weights, "epoch": 7}
    torch.save(content, folder / "20230926_85M.best.ckpt")
    values = {**SETTINGS, "gene_list": ensembl(), **settings}
    (folder / "20230926_85M.config.json").write_text(json.dumps(values))
    return folder


def cells(n=12, *, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 3.0, (n, N_GENES))).astype(np.float32)
    counts[:, 0] += 1
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame({"batch": list("ab" * n)[:n]}, index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=ensembl()),
    )


@pytest.fixture
def folder(tmp_path):
    return publish(tmp_path / "CellPLM_tiny")
