"""Tiny published folders, made by transformers from random weights."""

import pickle

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

N_GENES = 60


def genes(n=N_GENES):
    return [f"ENSG{i:011d}" for i in range(n)]


def dictionaries(version):
    special = ["<pad>", "<mask>"] + (["<cls>", "<eos>"] if version == "V2" else [])
    ids = {name: i for i, name in enumerate([*special, *genes()])}
    medians = {g: float(v) for g, v in zip(genes(), np.linspace(0.5, 3, N_GENES))}
    return ids, medians


def bert_config(version, **settings):
    from transformers import BertConfig

    ids, _ = dictionaries(version)
    sizes = {
        "vocab_size": len(ids),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "hidden_act": "relu",
        "pad_token_id": 0,
    }
    return BertConfig(**{**sizes, **settings})


def randomised(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        p.data = 1 + 0.1 * noise if "LayerNorm.weight" in name else 0.3 * noise
    return model.eval()


def publish(folder, version="V2", kind="BertForMaskedLM", *, pickled=False, **settings):
    """Write what the authors publish: weights by save_pretrained, dictionaries beside."""
    import transformers

    model = randomised(getattr(transformers, kind)(bert_config(version, **settings)))
    model.save_pretrained(folder)
    if pickled:
        (folder / "model.safetensors").unlink()
        state = {k: v for k, v in model.state_dict().items() if "decoder" not in k}
        torch.save(state, folder / "pytorch_model.bin")
    ids, medians = dictionaries(version)
    release = "gc104M" if version == "V2" else "gc30M"
    home = folder.parent / "geneformer"
    home = home if version == "V2" else home / "gene_dictionaries_30m"
    home.mkdir(parents=True, exist_ok=True)
    numbers = {k: np.int16(v) for k, v in ids.items()}
    (home / f"token_dictionary_{release}.pkl").write_bytes(pickle.dumps(numbers))
    (home / f"gene_median_dictionary_{release}.pkl").write_bytes(pickle.dumps(medians))
    renamed = {g: g for g in genes()} | {"ENSG99999999999": genes()[3]}
    (home / f"ensembl_mapping_dict_{release}.pkl").write_bytes(pickle.dumps(renamed))
    return model


def cells(n=12, *, seed=0, n_genes=N_GENES):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 2.0, (n, n_genes)) * rng.uniform(0.1, 1, (n, 1)))
    counts[:, 0] += 1
    adata = anndata.AnnData(
        sp.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=genes(n_genes)),
    )
    adata.obs["n_counts"] = counts.sum(1)
    return adata


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "Geneformer-V2-tiny"
    return folder, publish(folder)
