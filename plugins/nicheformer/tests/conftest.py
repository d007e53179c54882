"""Tiny published files of random weights with the published names."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES = 60
WIDTH, DEPTH, HEADS, HIDDEN, PLACES = 32, 3, 4, 48, 30
HYPER = {
    "dim_model": WIDTH,
    "nheads": HEADS,
    "dim_feedforward": HIDDEN,
    "nlayers": DEPTH,
    "n_tokens": N_GENES + 30,
    "context_length": PLACES,
    "learnable_pe": True,
    "supervised_task": None,
    "specie": True,
    "assay": True,
    "modality": True,
}


def genes(n=N_GENES):
    return [f"ENSG{i:011d}" for i in range(n)]


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def layer_shapes(stem):
    parts = {
        f"{stem}.self_attn.out_proj": linear(WIDTH, WIDTH),
        f"{stem}.linear1": linear(HIDDEN, WIDTH),
        f"{stem}.linear2": linear(WIDTH, HIDDEN),
        f"{stem}.norm1": {"weight": (WIDTH,), "bias": (WIDTH,)},
        f"{stem}.norm2": {"weight": (WIDTH,), "bias": (WIDTH,)},
    }
    found = {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}
    found[f"{stem}.self_attn.in_proj_weight"] = (3 * WIDTH, WIDTH)
    found[f"{stem}.self_attn.in_proj_bias"] = (3 * WIDTH,)
    return found


def shapes():
    found = {
        "embeddings.weight": (N_GENES + 35, WIDTH),
        "positional_embedding.weight": (PLACES, WIDTH),
        "classifier_head.weight": (N_GENES + 30, WIDTH),
        "classifier_head.bias": (N_GENES + 30,),
        "pooler_head.weight": (WIDTH, WIDTH),
        "pooler_head.bias": (WIDTH,),
        "cls_head.weight": (7, WIDTH),
        "cls_head.bias": (7,),
        **layer_shapes("encoder_layer"),
    }
    for i in range(DEPTH):
        found |= layer_shapes(f"encoder.layers.{i}")
    return found


def random_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes().items():
        drawn = torch.randn(shape, generator=generator)
        is_scale = "norm" in name and name.endswith("weight")
        state[name] = 1 + 0.1 * drawn if is_scale else 0.3 * drawn
    return state


def fine_tuned(task, n_out, *, extractor=False, seed=0, **settings):
    """Return a fine-tuned checkpoint: the network as ``backbone``, and a head."""
    generator = torch.Generator().manual_seed(seed + 7)
    state = {f"backbone.{k}": v for k, v in random_state(seed).items()}
    n_layers = len(settings.get("extract_layers", [1]))
    width = WIDTH * n_layers if settings.get("function_layers") == "concat" else WIDTH
    state["linear_head.weight"] = torch.randn(n_out, width, generator=generator)
    if extractor:
        state["pooler_head.weight"] = torch.randn(WIDTH, WIDTH, generator=generator) * 0.3
        state["pooler_head.bias"] = torch.randn(WIDTH, generator=generator)
    told = {"supervised_task": task, "extract_layers": [DEPTH - 1], "function_layers": "mean"}
    settings = told | {"nheads": HEADS, "without_context": True} | settings
    return {"state_dict": state, "hyper_parameters": settings, "epoch": 1}


def means(seed=3):
    rng = np.random.default_rng(seed)
    found = {name: rng.uniform(0.5, 9, N_GENES) for name in ("dissociated", "merfish", "xenium")}
    found["dissociated"][5] = 0.0
    found["merfish"][::4] = np.nan
    found["merfish"][[1, 2, 3, 9]] *= -1
    return found


def publish(folder, content=None, name="nicheformer.ckpt"):
    """Write what the authors publish: Lightning's file, gene order and means below it."""
    place = folder / "data" / "model_means"
    place.mkdir(parents=True, exist_ok=True)
    whole = {"state_dict": random_state(), "hyper_parameters": HYPER, "epoch": 1}
    torch.save(whole if content is None else content, folder / name)
    order = anndata.AnnData(
        sp.csr_matrix(np.ones((1, N_GENES), dtype=np.float32)), var=pd.DataFrame(index=genes())
    )
    order.write_h5ad(place / "model.h5ad")
    for technology, values in means().items():
        np.save(place / f"{technology}_mean_script.npy", values)
    return folder / name


def cells(n=12, *, seed=0, n_genes=N_GENES):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 3.0, (n, n_genes)) * rng.uniform(0.1, 1, (n, 1)))
    counts[:, :2] += 1
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    obs["species"] = np.where(np.arange(n) % 3, "Homo sapiens", "mouse")
    obs["assay"] = np.where(np.arange(n) % 2, "MERFISH", "10x 3' v3")
    obs["modality"] = np.where(np.arange(n) % 2, "spatial", "dissociated")
    return anndata.AnnData(
        sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=genes(n_genes))
    )


@pytest.fixture
def published(tmp_path):
    return publish(tmp_path / "nicheformer")
