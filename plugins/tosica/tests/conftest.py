"""Tiny saved projects of random weights with the published names."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES, N_PATHWAYS = 30, 5
WIDTH, DEPTH, HEADS, HIDDEN = 8, 2, 4, 32
LABELS = ["alpha", "beta", "t_cell"]
PATHWAYS = [*(f"R-{i}" for i in range(N_PATHWAYS - 1)), "node 0"]


def symbols(n=N_GENES):
    return [f"GENE{i}" for i in range(n)]


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def shapes():
    norm = {"weight": (WIDTH,), "bias": (WIDTH,)}
    parts = {
        "feature_embed.fe": linear(N_PATHWAYS * WIDTH, N_GENES),
        "norm": norm,
        "head": linear(len(LABELS), WIDTH),
    }
    for i in range(DEPTH):
        parts[f"blocks.{i}.norm1"] = parts[f"blocks.{i}.norm2"] = norm
        parts[f"blocks.{i}.attn.qkv"] = linear(3 * WIDTH, WIDTH)
        parts[f"blocks.{i}.attn.proj"] = linear(WIDTH, WIDTH)
        parts[f"blocks.{i}.mlp.fc1"] = linear(HIDDEN, WIDTH)
        parts[f"blocks.{i}.mlp.fc2"] = linear(WIDTH, HIDDEN)
    return {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}


def mask():
    """Genes × pathways; the last reads every gene."""
    drawn = np.random.default_rng(3).random((N_GENES, N_PATHWAYS)) < 0.3
    drawn[:, -1] = True
    return drawn.astype(np.float64)


def random_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {"cls_token": torch.randn((1, 1, WIDTH), generator=generator)}
    for name, shape in shapes().items():
        drawn = 0.3 * torch.randn(shape, generator=generator)
        state[name] = 1 + drawn if "norm" in name and name.endswith("weight") else drawn
    rows = np.repeat(mask().T, WIDTH, axis=0)
    state["feature_embed.fe.mask"] = torch.from_numpy(rows.astype(np.float32))
    return state


def publish(folder, state=None):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(random_state() if state is None else state, folder / "model-10.pth")
    torch.save(random_state(9), folder / "model-9.pth")  # an earlier epoch
    np.save(folder / "mask.npy", mask())
    pd.DataFrame(np.array(PATHWAYS)).to_csv(folder / "pathway.csv")
    pd.DataFrame(LABELS, columns=["Celltype"]).to_csv(folder / "label_dictionary.csv")
    weights = pd.DataFrame(np.zeros((N_PATHWAYS, N_GENES)), columns=symbols())
    weights.index = pd.Index(PATHWAYS, name="0")
    weights.to_csv(folder / "gene2token_weights.csv")
    return folder


def cells(n=12, *, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 3.0, (n, N_GENES))).astype(np.float32)
    counts[:, 0] += 1
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=symbols()),
    )


@pytest.fixture
def folder(tmp_path):
    return publish(tmp_path / "project")
