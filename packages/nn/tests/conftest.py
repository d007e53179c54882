"""Small batches that every test can make."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.records import Tokens, Vocabulary


def make_tokens(n_cells=6, n_genes=20, *, seed=0, longest=12, modalities=1):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, n_cells)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    ids = np.concatenate([rng.permutation(n_genes)[:n] + 3 for n in lengths]).astype(np.int32)
    modality = rng.integers(0, modalities, len(ids)).astype(np.uint8) if modalities > 1 else None
    return Tokens(
        offsets=offsets,
        ids=ids,
        obs_names=np.array([f"cell{i}" for i in range(n_cells)]),
        values=rng.gamma(2.0, 1.0, len(ids)).astype(np.float32).round(1) + 0.1,
        modality=modality,
        modalities=tuple("ab"[:modalities]) if modalities > 1 else (),
        context={
            "sample": np.arange(n_cells) % 2,
            "x": rng.random(n_cells),
            "y": rng.random(n_cells),
            "batch": np.arange(n_cells) % 2,
        },
    )


def make_vocabulary(n_genes=20):
    names = ("<pad>", "<mask>", "<cls>", *(f"g{i}" for i in range(n_genes)))
    return Vocabulary(names=names, special={"pad": 0, "mask": 1, "cls": 2})


@pytest.fixture
def tokens():
    return make_tokens()


@pytest.fixture
def batch():
    from cellweave_nn.batch import TokenBatch

    return TokenBatch.from_tokens(make_tokens(modalities=2), vocabulary=make_vocabulary())


@pytest.fixture
def adata():
    """Sixty cells of two types over thirty genes, from three donors."""
    return make_cells()


@pytest.fixture(scope="session")
def some_cells():
    """Give the function that makes such cells."""
    return make_cells


def make_cells(n=60, *, seed=0):
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    rate = np.where((np.arange(30)[None, :] + kind[:, None]) % 2, 3.0, 0.3)
    return anndata.AnnData(
        sp.csr_matrix(np.log1p(rng.poisson(rate)).astype(np.float32)),
        obs=pd.DataFrame(
            {
                "cell_type": pd.Categorical(np.array(["a", "b"])[kind]),
                "donor": np.array(["x", "y", "z"])[np.arange(n) % 3],
            },
            index=[f"cell{i}" for i in range(n)],
        ),
        var=pd.DataFrame(index=[f"g{i}" for i in range(30)]),
    )


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A finished run of a tiny model and the cells it was trained on."""
    from cellweave_nn.training.pretrain import pretrain
    from cellweave_nn.training.settings import PretrainConfig

    folder = tmp_path_factory.mktemp("trained")
    cells = folder / "cells.h5ad"
    make_cells(150).write_h5ad(cells)
    parameters = {"width": 16, "depth": 2, "heads": 2, "values": "continuous"}
    config = PretrainConfig.model_validate(
        {
            "data": str(cells),
            "output": str(folder / "run"),
            "encoder": {"name": "nn.transformer", "parameters": parameters},
            "objectives": {"mvc": {"name": "nn.cell_conditioned", "parameters": {"fraction": 0.3}}},
            "training": {
                "steps": 120,
                "cells_per_slot": 30,
                "learning_rate": 1e-2,
                "device": "cpu",
            },
            "card": {"title": "Tiny", "licence": "CC0-1.0"},
        }
    )
    pretrain(config)
    return folder
