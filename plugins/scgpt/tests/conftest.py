"""Tiny published folders of random weights with the published names."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES = 70
WIDTH, DEPTH, HEADS, HIDDEN = 32, 2, 4, 48
ARGS = {
    "embsize": WIDTH,
    "nheads": HEADS,
    "d_hid": HIDDEN,
    "nlayers": DEPTH,
    "n_layers_cls": 3,
    "n_bins": 51,
    "max_seq_len": 30,
    "pad_token": "<pad>",
    "pad_value": -2,
}


def symbols(n=N_GENES):
    return [f"GENE{i}" for i in range(n)]


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def shapes(*, labels=0, norm=None, values="continuous", zero=False):
    parts = {
        "encoder.embedding": {"weight": (N_GENES + 3, WIDTH)},
        "encoder.enc_norm": {"weight": (WIDTH,), "bias": (WIDTH,)},
        "flag_encoder": {"weight": (2, WIDTH)},
        "mvc_decoder.gene2query": linear(WIDTH, WIDTH),
        "mvc_decoder.W": {"weight": (WIDTH, WIDTH)},
    }
    if values == "continuous":
        parts["value_encoder.linear1"] = linear(WIDTH, 1)
        parts["value_encoder.linear2"] = linear(WIDTH, WIDTH)
        parts["value_encoder.norm"] = {"weight": (WIDTH,), "bias": (WIDTH,)}
    if values == "category":
        parts["value_encoder.embedding"] = {"weight": (53, WIDTH)}
        parts["value_encoder.enc_norm"] = {"weight": (WIDTH,), "bias": (WIDTH,)}
    for i, out in ((0, WIDTH), (2, WIDTH), (4, 1)):
        parts[f"decoder.fc.{i}"] = linear(out, WIDTH)
        if zero:
            parts[f"decoder.zero_logit.{i}"] = linear(out, WIDTH)
    for i in range(DEPTH):
        stem = f"transformer_encoder.layers.{i}"
        parts[f"{stem}.self_attn.Wqkv"] = linear(3 * WIDTH, WIDTH)
        parts[f"{stem}.self_attn.out_proj"] = linear(WIDTH, WIDTH)
        parts[f"{stem}.linear1"] = linear(HIDDEN, WIDTH)
        parts[f"{stem}.linear2"] = linear(WIDTH, HIDDEN)
        for n in ("norm1", "norm2"):
            parts[f"{stem}.{n}"] = {"weight": (WIDTH,), "bias": (WIDTH,)}
    statistics = {"running_mean": (WIDTH,), "running_var": (WIDTH,), "num_batches_tracked": ()}
    if norm == "bn":
        parts["bn"] = {"weight": (WIDTH,), "bias": (WIDTH,), **statistics}
    if norm == "dsbn":
        parts |= {f"dsbn.bns.{i}": statistics for i in range(2)}
    if labels:
        for i in (0, 3):
            parts[f"cls_decoder._decoder.{i}"] = linear(WIDTH, WIDTH)
            parts[f"cls_decoder._decoder.{i + 2}"] = {"weight": (WIDTH,), "bias": (WIDTH,)}
        parts["cls_decoder.out_layer"] = linear(labels, WIDTH)
    return {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}


def random_state(seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(**settings).items():
        drawn = 0.3 * torch.randn(shape, generator=generator)
        scale = "norm" in name and name.endswith("weight")
        state[name] = drawn.exp() if "running_var" in name else 1 + drawn if scale else drawn
        if "num_batches" in name:
            state[name] = torch.tensor(7)
    return state


def publish(folder, state=None, **args):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(random_state() if state is None else state, folder / "best_model.pt")
    (folder / "args.json").write_text(json.dumps(ARGS | args))
    (folder / "vocab.json").write_text(json.dumps({g: i for i, g in enumerate(symbols())}))
    return folder


def cells(n=12, *, seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 3.0, (n, N_GENES)) * rng.uniform(0.05, 1, (n, 1))
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, 0] += 1
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=symbols()),
    )


@pytest.fixture
def folder(tmp_path):
    return publish(tmp_path / "scGPT_tiny")
