"""Make the tiny model folders that are loaded in CI for ever: run once for each version.

    python packages/nn/tests/make_models.py

Folders that are there already stay as they are: they are what an earlier version wrote.
"""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from torch import nn

import cellweave_nn
from cellweave_nn.adapt.prune import prune_heads
from cellweave_nn.adapt.quantise import quantise
from cellweave_nn.models.build import build_encoder, build_objectives
from cellweave_nn.models.cell_model import CellModel
from cellweave_nn.models.folder import FolderConfig
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.tokenizers import NonzeroTokenizer
from cellweave_nn.training.randomness import torch_seeded

HERE = Path(__file__).parent / "models"
SIZE = {"width": 8, "depth": 1}
ENCODERS = {
    "asymmetric": {"heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2,
                   "n_bins": 4},
    "causal": {"heads": 2},
    "favor": {"heads": 2},
    "flow": {"heads": 2},
    "generative": {"heads": 2},
    "patch": {"heads": 2, "patch": 8},
    "state_space": {"state": 4, "head_width": 4, "chunk": 4},
    "transformer": {"heads": 2, "values": "continuous", "places": "rotary"},
}  # fmt: skip
OBJECTIVES = {"gep": {"name": "nn.masked_value"}}


def cells(n=60, *, seed=0):
    """Return the cells of ``conftest``; they must never change."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    rate = np.where((np.arange(30)[None, :] + kind[:, None]) % 2, 3.0, 0.3)
    return anndata.AnnData(
        sp.csr_matrix(np.log1p(rng.poisson(rate)).astype(np.float32)),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(30)]),
    )


def model_of(name, parameters):
    """Build a small model with drawn weights and one head."""
    tokenizer = NonzeroTokenizer().fit(cells())
    n_ids = len(tokenizer.vocabulary)
    parameters = {"n_ids": n_ids, **SIZE, **parameters}
    encoder = build_encoder(f"nn.{name}", parameters, seed=1)
    config = FolderConfig(
        encoder={"name": f"nn.{name}", "parameters": parameters},
        objectives=OBJECTIVES,
        special=dict(tokenizer.vocabulary.special),
        version=cellweave_nn.__version__,
    )
    with torch_seeded(1, "heads"):
        heads = build_objectives(config.objectives).heads(
            HeadShape(token_width=encoder.token_width, cell_width=encoder.cell_width, n_ids=n_ids)
        )
    return CellModel(
        config=config, tokenizer=tokenizer, encoder=encoder, heads=nn.ModuleDict(heads)
    )


def main():
    """Write what is missing for the version at hand."""
    made = {name: model_of(name, parameters) for name, parameters in ENCODERS.items()}
    plain = made["transformer"]
    made["pruned"] = prune_heads(plain, cells(), share=0.5)
    made["int8"], made["bf16"] = quantise(plain, to="int8"), quantise(plain, to="bf16")
    for name, model in made.items():
        folder = HERE / f"{cellweave_nn.__version__}-{name}"
        if not folder.exists():
            model.save(folder / "model")
            np.save(folder / "expected.npy", model.embed(cells()[:6].copy()).values)


if __name__ == "__main__":
    main()
