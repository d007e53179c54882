"""Tiny published folders of random weights with the published names, and their tables."""

import pickle

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from cellweave_uce import UceModel

HUMAN = [f"Gene{i}" for i in range(30)]
MOUSE = [f"mouse{i}" for i in range(20)]
CHROMOSOMES = {"human": ["1", "2", "X"], "mouse": ["1", "X"]}
OFFSETS = {"human": 4, "mouse": 34}
N_ROWS = 4 + 30 + 20 + 5
VECTOR, WIDTH, DEPTH, HEADS, HIDDEN, PLACES = 12, 40, 2, 20, 48, 1536
MIDDLE, BINARY = 24, (10, 8, 6)


def linear(out, width):
    return {"weight": (out, width), "bias": (out,)}


def shapes():
    parts = {"pe_embedding": {"weight": (N_ROWS, VECTOR)}}
    for name in ("encoder", "gene_embedding_layer"):
        parts[f"{name}.0"] = linear(WIDTH, VECTOR)
        parts[f"{name}.2"] = {"weight": (WIDTH,), "bias": (WIDTH,)}
    for i in range(DEPTH):
        stem = f"transformer_encoder.layers.{i}"
        parts[f"{stem}.self_attn.out_proj"] = linear(WIDTH, WIDTH)
        parts[f"{stem}.linear1"] = linear(HIDDEN, WIDTH)
        parts[f"{stem}.linear2"] = linear(WIDTH, HIDDEN)
        for n in ("norm1", "norm2"):
            parts[f"{stem}.{n}"] = {"weight": (WIDTH,), "bias": (WIDTH,)}
    for name, sizes, out in (
        ("decoder", (WIDTH, MIDDLE, WIDTH, WIDTH), WIDTH),
        ("binary_decoder", (2 * WIDTH, *BINARY), 1),
    ):
        for i in range(3):
            parts[f"{name}.{i}.0"] = linear(sizes[i + 1], sizes[i])
            parts[f"{name}.{i}.1"] = {"weight": (sizes[i + 1],), "bias": (sizes[i + 1],)}
        parts[f"{name}.3"] = linear(out, sizes[3])
    found = {f"{k}.{kind}": s for k, kinds in parts.items() for kind, s in kinds.items()}
    for i in range(DEPTH):
        stem = f"transformer_encoder.layers.{i}.self_attn.in_proj_"
        found |= {f"{stem}weight": (3 * WIDTH, WIDTH), f"{stem}bias": (3 * WIDTH,)}
    return found


def waves():
    """Sines and cosines of places, written out."""
    place = np.arange(PLACES)[:, None]
    rate = np.exp(np.arange(0, WIDTH, 2) * (-np.log(10_000.0) / WIDTH))
    found = np.zeros((PLACES, WIDTH))
    found[:, 0::2], found[:, 1::2] = np.sin(place * rate), np.cos(place * rate)
    return torch.from_numpy(found).float()[:, None]


def random_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {"pos_encoder.pe": waves()}
    for name, shape in shapes().items():
        drawn = 0.3 * torch.randn(shape, generator=generator)
        scale = len(shape) == 1 and name.endswith("weight")
        state[name] = 1 + drawn if scale else drawn
    return state


def coordinates():
    """The table of chromosomes; starts fall where symbols rise, on changing chromosomes."""
    rows = []
    for species, genes in (("human", HUMAN), ("mouse", MOUSE)):
        names = CHROMOSOMES[species]
        for i, gene in enumerate(genes):
            rows.append((species, gene.upper(), names[i % len(names)], 1000 - 7 * i))
    return pd.DataFrame(rows, columns=["species", "gene_symbol", "chromosome", "start"])


def publish(folder, state=None):
    (folder / "protein_embeddings").mkdir(parents=True, exist_ok=True)
    torch.save(random_state() if state is None else state, folder / "4layer_model.torch")
    coordinates().to_csv(folder / "species_chrom.csv")
    (folder / "species_offsets.pkl").write_bytes(pickle.dumps(OFFSETS))
    for stem, genes in (("Homo_sapiens.GRCh38", HUMAN), ("Mus_musculus.GRCm39", MOUSE)):
        place = folder / "protein_embeddings" / f"{stem}.gene_symbol_to_embedding_ESM2.pt"
        torch.save({g: torch.zeros(VECTOR) for g in genes}, place)
    return folder


def loaded(folder, **companions):
    """A model that draws few genes, so that tests are quick."""
    model = UceModel.load(folder, **companions)
    model.tokenizer.n_draws = 60
    return model


def cells(n=8, *, seed=0, genes=HUMAN):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.4, 3.0, (n, len(genes)))).astype(np.float32)
    counts[:, 0] += 1
    counts[0, 1:] = 0  # one chromosome alone: a shorter sentence
    return anndata.AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=list(genes)),
    )


@pytest.fixture
def folder(tmp_path):
    return publish(tmp_path / "UCE_tiny")
