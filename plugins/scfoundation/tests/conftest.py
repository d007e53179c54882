"""Tiny published files of random weights with the published names."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES = 50
WIDTH, DEPTH, HEADS, HIDDEN = 32, 2, 4, 48
D_WIDTH, D_DEPTH, D_HEADS, FEATURES, BINS = 24, 2, 3, 16, 10
CONFIG = {
    "model": "mae_autobin",
    "model_config": {
        "mae_autobin": {
            "bin_num": BINS,
            "bin_alpha": 1.0,
            "encoder": {"hidden_dim": WIDTH, "depth": DEPTH, "heads": HEADS, "dim_head": 8},
            "decoder": {"hidden_dim": D_WIDTH, "depth": D_DEPTH, "heads": D_HEADS},
        }
    },
    "dataset_config": {"rnaseq": {"seq_len": N_GENES + 2, "pad_token_id": 103}},
}


def symbols(n=N_GENES):
    return [f"GENE{i}" for i in range(n)]


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def norm(width):
    return {"weight": (width,), "bias": (width,)}


def shapes():
    parts = {
        "token_emb.mlp": linear(BINS, 1),
        "token_emb.mlp2": linear(BINS, BINS),
        "token_emb.emb": {"weight": (BINS, WIDTH)},
        "token_emb.emb_mask": {"weight": (1, WIDTH)},
        "token_emb.emb_pad": {"weight": (1, WIDTH)},
        "pos_emb": {"weight": (N_GENES + 3, WIDTH)},
        "encoder.norm": norm(WIDTH),
        "decoder_embed": linear(D_WIDTH, WIDTH),
        "decoder.norm": norm(D_WIDTH),
        "norm": norm(D_WIDTH),
        "to_final": linear(1, D_WIDTH),
    }
    for i in range(DEPTH):
        stem = f"encoder.transformer_encoder.{i}"
        parts[f"{stem}.self_attn.out_proj"] = linear(WIDTH, WIDTH)
        parts[f"{stem}.linear1"] = linear(HIDDEN, WIDTH)
        parts[f"{stem}.linear2"] = linear(WIDTH, HIDDEN)
        parts |= {f"{stem}.{n}": norm(WIDTH) for n in ("norm1", "norm2")}
    for i in range(D_DEPTH):
        stem = f"decoder.performer.net.layers.{i}"
        parts |= {f"{stem}.{j}.norm": norm(D_WIDTH) for j in (0, 1)}
        parts |= {f"{stem}.0.fn.to_{k}": linear(D_WIDTH, D_WIDTH) for k in ("q", "k", "v", "out")}
        parts[f"{stem}.1.fn.fn.w1"] = linear(4 * D_WIDTH, D_WIDTH)
        parts[f"{stem}.1.fn.fn.w2"] = linear(D_WIDTH, 4 * D_WIDTH)
    found = {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}
    for i in range(DEPTH):
        stem = f"encoder.transformer_encoder.{i}.self_attn.in_proj_"
        found |= {f"{stem}weight": (3 * WIDTH, WIDTH), f"{stem}bias": (3 * WIDTH,)}
    for i in range(D_DEPTH):
        stem = f"decoder.performer.net.layers.{i}.0.fn.fast_attention"
        found[f"{stem}.projection_matrix"] = (FEATURES, D_WIDTH // D_HEADS)
    return found


def random_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes().items():
        drawn = torch.randn(shape, generator=generator)
        is_scale = "norm" in name and name.endswith("weight")
        scaled = 1 + 0.1 * drawn if is_scale else 0.3 * drawn
        state[name] = drawn if "projection" in name else scaled
    state["decoder.performer.calls_since_last_redraw"] = torch.tensor(0)
    return state


def parts(seed=0):
    """Return the content of ``models.ckpt``: three models, each with other weights."""
    return {
        part: {
            "config": CONFIG,
            "state_dict": {f"model.{k}": v for k, v in random_state(seed + i).items()},
        }
        for i, part in enumerate(("cell", "gene", "rde"))
    }


def publish(folder, content=None):
    """Write what the authors publish: ``models.ckpt``, and the list of genes above it."""
    place = folder / "models"
    place.mkdir(parents=True, exist_ok=True)
    torch.save(parts() if content is None else content, place / "models.ckpt")
    lines = ["gene_name\tindex", *(f"{g}\t{i}" for i, g in enumerate(symbols()))]
    (folder / "OS_scRNA_gene_index.19264.tsv").write_text("\n".join(lines) + "\n")
    return place / "models.ckpt"


def cells(n=12, *, seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 3.0, (n, N_GENES)) * rng.uniform(0.05, 1, (n, 1))
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, :2] += 1
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=symbols()),
    )


@pytest.fixture
def published(tmp_path):
    return publish(tmp_path / "model")
