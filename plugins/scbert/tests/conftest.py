"""Tiny published folders of random weights with the published names."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES = 40
WIDTH, DEPTH, HEADS, HEAD_WIDTH, HIDDEN, FEATURES = 20, 2, 3, 8, 80, 16


def symbols(n=N_GENES):
    return [f"GENE{i}" for i in range(n)]


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def shapes(*, labels=0):
    inner, norm = HEADS * HEAD_WIDTH, {"weight": (WIDTH,), "bias": (WIDTH,)}
    parts = {
        "token_emb": {"weight": (7, WIDTH)},
        "pos_emb.emb": {"weight": (N_GENES + 1, WIDTH)},
        "norm": norm,
    }
    for i in range(DEPTH):
        stem = f"performer.net.layers.{i}"
        parts[f"{stem}.0.norm"] = parts[f"{stem}.1.norm"] = norm
        for name in ("to_q", "to_k", "to_v"):
            parts[f"{stem}.0.fn.{name}"] = {"weight": (inner, WIDTH)}
        parts[f"{stem}.0.fn.to_out"] = linear(WIDTH, inner)
        parts[f"{stem}.0.fn.fast_attention"] = {"projection_matrix": (FEATURES, HEAD_WIDTH)}
        parts[f"{stem}.1.fn.fn.w1"] = linear(HIDDEN, WIDTH)
        parts[f"{stem}.1.fn.fn.w2"] = linear(WIDTH, HIDDEN)
    if labels:
        parts["to_out.conv1"] = {"weight": (1, 1, 1, WIDTH), "bias": (1,)}
        parts["to_out.fc1"] = linear(12, N_GENES + 1)
        parts["to_out.fc2"] = linear(9, 12)
        parts["to_out.fc3"] = linear(labels, 9)
    else:
        parts["to_out"] = linear(7, WIDTH)
    return {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}


def random_state(seed=0, *, double=False, **settings):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(**settings).items():
        drawn = torch.randn(shape, generator=generator)
        scale = "norm" in name and name.endswith("weight")
        features = name.endswith("projection_matrix")
        state[name] = drawn if features else 1 + 0.2 * drawn if scale else 0.3 * drawn
    if double:
        state["pos_emb.emb.weight"] = state["pos_emb.emb.weight"].double() + 1e-12
    state["performer.calls_since_last_redraw"] = torch.tensor(3)
    return state


def publish(folder, state=None):
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_state() if state is None else state
    content = {"epoch": 5, "model_state_dict": weights, "losses": 0.25}
    torch.save(content, folder / "panglao_pretrain.pth")
    (folder / "genes.txt").write_text("\n".join(symbols()))
    return folder


def cells(n=8, *, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.4, 3.0, (n, N_GENES))).astype(np.float32)
    counts[:, 0] += 1
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=symbols()),
    )


@pytest.fixture
def folder(tmp_path):
    return publish(tmp_path / "scBERT_tiny")
