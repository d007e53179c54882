"""Several modalities in one sequence, mosaic included, from file to model folder."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.datasets import simulate
from cellweave.errors import DataError
from cellweave_nn.joined_tokenizer import JoinedTokenizer
from cellweave_nn.models.cell_model import load_model
from cellweave_nn.training.pretrain import pretrain
from cellweave_nn.training.settings import PretrainConfig

PARTS = {m: {"name": "nn.nonzero", "parameters": {"limit": 20}} for m in ("rna", "prot")}


@pytest.fixture(scope="module")
def mdata():
    return simulate(n_cells=40, modalities=("rna", "prot"), n_genes=60, n_proteins=12, n_types=2)


def test_tokens_of_a_cell_stand_together_and_ids_do_not_meet(mdata):
    tokenizer = JoinedTokenizer(parts=PARTS).fit(mdata)
    tokens = tokenizer.encode(mdata)
    rna, prot = (tokenizer._tokenizers[m].encode(mdata.mod[m]) for m in PARTS)
    assert tokens.obs_names.tolist() == mdata.obs_names.tolist()
    for i, name in enumerate(mdata.obs_names):
        own = slice(tokens.offsets[i], tokens.offsets[i + 1])
        expected = []
        for code, (part, shift) in enumerate([(rna, 0), (prot, 63)]):
            rows = np.flatnonzero(part.obs_names == name)
            for row in rows:
                at = slice(part.offsets[row], part.offsets[row + 1])
                expected += [(int(x) + shift, code) for x in part.ids[at]]
        found = list(zip(tokens.ids[own].tolist(), tokens.modality[own].tolist(), strict=True))
        assert found == expected
    names = tokenizer.vocabulary.names
    assert all(names[i].startswith("prot:") for i in tokens.ids[tokens.modality == 1])
    back = JoinedTokenizer.from_state(tokenizer.state())
    assert back.encode(mdata).ids.tolist() == tokens.ids.tolist()
    with pytest.raises(DataError, match="have no atac; they have prot, rna"):
        JoinedTokenizer(parts={"atac": PARTS["rna"]}).fit(mdata)


def test_pretraining_on_two_modalities(mdata, tmp_path):
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    config = PretrainConfig.model_validate(
        {
            "data": str(tmp_path / "cells.h5mu"),
            "output": str(tmp_path / "run"),
            "tokenizer": {"name": "nn.joined", "parameters": {"parts": PARTS}},
            "encoder": {
                "name": "nn.multiomic",
                "parameters": {"n_modalities": 2, "width": 16, "depth": 1, "heads": 2},
            },
            "objectives": {"align": {"name": "nn.alignment"}},
            "training": {"steps": 4, "cells_per_slot": 16, "device": "cpu"},
        }
    )
    assert pretrain(config).finished
    model = load_model(tmp_path / "run" / "model")
    embedded = model.embed(mdata, batch_size=8)
    assert embedded.names.tolist() == mdata.obs_names.tolist()
    assert np.isfinite(embedded.values).all()
