"""Tiny published folders of random weights with the published names."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES = 24
WIDTH, DEPTH, HEADS, HIDDEN, BINS = 16, 2, 4, 64, 10
TYPES = [f"type {i}" for i in range(6)]
GENES = [f"GENE{i}" for i in range(N_GENES)]
# Ids are in another order than the list of genes, with other tokens between them.
TOKENS = ["<#E#>", *GENES[::3], "<PCT>", *TYPES, *GENES[2::3], "lung", "donor 40", *GENES[1::3]]
ARGS = {
    "block_size": 1000,
    "vocab_size": len(TOKENS),
    "n_layer": DEPTH,
    "n_head": HEADS,
    "n_embd": WIDTH,
    "dropout": 0.0,
    "bias": True,
    "train_mode": "pretrain",
    "expression_level": BINS,
    "ele": 1,
}
META = {
    "gene_set": GENES,
    "token_set": TOKENS,
    "cell_type": set(TYPES[:4]),
    "MCT": set(TYPES[4:]),
    "n": 1,
}


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def shapes(*, bias=True):
    norm = {"weight": (WIDTH,), "bias": (WIDTH,)}
    parts = {
        "transformer.wte": {"weight": (len(TOKENS), WIDTH)},
        "transformer.wee": {"weight": (BINS + 1, WIDTH)},
        "transformer.ln_f": norm,
        "lm_head": {"weight": (len(TOKENS), WIDTH)},
        "epx_head": {"weight": (len(TOKENS), WIDTH)},
    }
    for i in range(DEPTH):
        stem = f"transformer.h.{i}"
        parts[f"{stem}.ln_1"] = parts[f"{stem}.ln_2"] = norm
        parts[f"{stem}.attn.c_attn"] = linear(3 * WIDTH, WIDTH)
        parts[f"{stem}.attn.c_proj"] = linear(WIDTH, WIDTH)
        parts[f"{stem}.mlp.c_fc"] = linear(HIDDEN, WIDTH)
        parts[f"{stem}.mlp.c_proj"] = linear(WIDTH, HIDDEN)
    found = {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}
    return {k: s for k, s in found.items() if bias or not k.endswith("bias")}


def random_state(seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(**settings).items():
        drawn = 0.4 * torch.randn(shape, generator=generator)
        state[name] = 1 + drawn if len(shape) == 1 and name.endswith("weight") else drawn
    # Types and the end are written often, and bins are spread.
    state["lm_head.weight"][[TOKENS.index(t) for t in ["<#E#>", *TYPES]]] *= 4
    state["epx_head.weight"] *= 5
    return state


def publish(folder, state=None, **args):
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_state() if state is None else state
    content = {"model": weights, "model_args": ARGS | args, "iter_num": 5}
    torch.save(content, folder / "ckpt_scMulan.pt")
    torch.save(META, folder / "meta_info.pt")
    return folder


def cells(n=12, *, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 3.0, (n, N_GENES))).astype(np.float32)
    counts[:, 0] += 1
    counts[0, 1:] = 0  # one gene alone
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=GENES),
    )


@pytest.fixture
def folder(tmp_path):
    return publish(tmp_path / "scMulan_tiny")
