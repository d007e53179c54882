"""Tiny published folders of random weights with the published names."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import save_file

N_GENES = 50
N_IDS = N_GENES + 2
WIDTH, DEPTH, HEADS, STATE, CONV, LENGTH = 24, 2, 4, 6, 4, 22
INNER = 2 * WIDTH


def genes(n=N_GENES):
    return [f"ENSG{i:011d}" for i in range(n)]


def shapes(*, fuse="mean", labels=0, cls=False):
    n_ids = N_IDS + cls
    found = {
        "embeddings.weight": (n_ids, WIDTH),
        "norm_f.weight": (WIDTH,),
        "lm_head.weight": (n_ids, WIDTH),
        "lm_head.bias": (n_ids,),
    }
    for i in range(DEPTH):
        stem = f"mamba_mixer.layers.{i}.mamba"
        found |= {
            f"{stem}.in_proj.weight": (2 * INNER + 2 * STATE + HEADS, WIDTH),
            f"{stem}.conv1d.weight": (INNER + 2 * STATE, 1, CONV),
            f"{stem}.conv1d.bias": (INNER + 2 * STATE,),
            f"{stem}.dt_bias": (HEADS,),
            f"{stem}.A_log": (HEADS,),
            f"{stem}.D": (HEADS,),
            f"{stem}.norm.weight": (INNER,),
            f"{stem}.out_proj.weight": (WIDTH, INNER),
        }
    if fuse in ("concat", "gate"):
        found["mamba_mixer.aggr.weight"] = (WIDTH, 2 * WIDTH)
        found["mamba_mixer.aggr.bias"] = (WIDTH,)
    if labels:
        sizes = [(16, WIDTH), (16, 16), (labels, 16)]
        for at, (out, into) in zip((0, 4, 8), sizes):
            found[f"classifier.layers.{at}.weight"] = (out, into)
            found[f"classifier.layers.{at}.bias"] = (out,)
        for at in (1, 5):
            for kind in ("weight", "bias", "running_mean", "running_var"):
                found[f"classifier.layers.{at}.{kind}"] = (16,)
    return found


def random_state(seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(**options).items():
        drawn = torch.randn(shape, generator=generator)
        state[name] = 0.3 * drawn
        if name.endswith("norm.weight") or name == "norm_f.weight":
            state[name] = 1 + 0.1 * drawn
        if "running_var" in name or name.endswith(".A_log"):
            state[name] = drawn.abs() + 0.2
        if name.startswith("embeddings"):
            state[name] = drawn
    if options.get("labels"):
        for at in (1, 5):
            state[f"classifier.layers.{at}.num_batches_tracked"] = torch.tensor(7)
    return state


def write_tokenizer(folder, *, cls=False):
    words = {"[UNK]": 0, "[PAD]": 1, **{g: i + 2 for i, g in enumerate(genes())}}
    added = [{"id": 0, "content": "[UNK]"}, {"id": 1, "content": "[PAD]"}]
    if cls:
        added.append({"id": N_IDS, "content": "[CLS]"})
    content = {"version": "1.0", "added_tokens": added, "model": {"type": "W", "vocab": words}}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def publish(folder, state=None, *, fuse="mean", **config):
    """Write what the authors publish: weights, settings and vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(random_state(fuse=fuse) if state is None else state, folder / "model.safetensors")
    settings = {"d_model": WIDTH, "mamba_layer": DEPTH, "mode": fuse, "seq_len": LENGTH}
    (folder / "config.json").write_text(json.dumps(settings | config))
    write_tokenizer(folder)
    return folder


def cells(n=12, *, seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 3.0, (n, N_GENES)) * rng.uniform(0.05, 1, (n, 1))
    # Values without ties, so that only the rule of sorting decides.
    counts = rng.poisson(rate) * (1 + 1e-3 * rng.random((n, N_GENES)))
    counts[:, 0] += 1
    return anndata.AnnData(
        sp.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=genes()),
    )


@pytest.fixture
def folder(tmp_path):
    return publish(tmp_path / "24l-tiny")
