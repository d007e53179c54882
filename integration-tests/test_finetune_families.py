"""Published families are trained further by the engine, from the command line's own function."""

from dataclasses import replace

import numpy as np
import pytest

import cellweave
from cellweave.errors import LicenceNotice
from cellweave_cellplm import CellplmModel
from cellweave_geneformer import GeneformerModel
from cellweave_nn.adapt.finetune import FinetuneConfig, finetune
from cellweave_nn.models.trainable import trainable_model
from cellweave_nn.training.settings import TrainingSettings
from cellweave_scfoundation import ScfoundationModel
from cellweave_scgpt import ScgptModel
from cellweave_tosica import TosicaModel

RATES = {"scgpt": 3e-3}  # its stack of ReLU blocks dies at the higher rate
SMALL = {"width": 64, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def cells():
    rna = cellweave.datasets.simulate(n_cells=300, modalities=("rna",), seed=1)["rna"]
    counts = rna.X.toarray()
    return rna[:, np.argsort(-counts.var(axis=0))[:150]].copy()


def gene_sets(cells, place):
    genes = cells.var_names.to_numpy(dtype=str)
    rows = [f"SET{i}\tx\t" + "\t".join(genes[i::8]) for i in range(8)]
    place.write_text("\n".join(rows) + "\n")
    return place


FAMILIES = {
    "geneformer": lambda cells, _: GeneformerModel.untrained(cells, hidden=64, **SMALL),
    "scgpt": lambda cells, _: ScgptModel.untrained(cells, hidden=64, **SMALL),
    "tosica": lambda cells, place: TosicaModel.untrained(
        cells, gmt=gene_sets(cells, place / "sets.gmt"), max_sets=8, **SMALL
    ),
    "cellplm": lambda cells, _: CellplmModel.untrained(cells, latent_width=16, **SMALL),
    "scfoundation": lambda cells, _: ScfoundationModel.untrained(
        cells, hidden=64, decoder_width=16, decoder_depth=1, decoder_heads=2, **SMALL
    ),
}


def trained(cells, place, family, *, steps=150, **settings):
    FAMILIES[family](cells, place).save(place / "published")
    cellweave.write(cells, place / "cells.h5ad")
    config = FinetuneConfig(
        model=place / "published",
        data=place / "cells.h5ad",
        modality="rna",
        label="cell_type",
        output=place / "run",
        report=False,
        training=TrainingSettings(steps=steps, learning_rate=RATES.get(family, 1e-2)),
        **settings,
    )
    return finetune(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_learns_labels_and_is_read_back(cells, tmp_path, family):
    done = trained(cells, tmp_path, family)
    chance = cells.obs["cell_type"].value_counts(normalize=True).max()
    assert done.accuracy > chance + 0.1  # of cells that were held out
    model = cellweave.load(tmp_path / "run" / "model")
    scores = model.predict(cells)
    truth = cells.obs["cell_type"].to_numpy(dtype=str)
    found = np.array(done.labels)[scores.argmax(1)]
    assert np.mean(found == truth) > chance + 0.2
    assert model.embed(cells).values.shape[0] == cells.n_obs


@pytest.mark.parametrize("mode", ["lora", "last", "probe"])
def test_parts_of_a_family_are_trained(cells, tmp_path, mode, monkeypatch):
    monkeypatch.setitem(SMALL, "depth", 2)
    done = trained(cells, tmp_path, "geneformer", mode=mode, rank=4, steps=3)
    base = GeneformerModel.load(tmp_path / "published")
    after = cellweave.load(tmp_path / "run" / "model").encoder.network
    moved = {
        name
        for name, value in after.state_dict().items()
        if not np.array_equal(value.numpy(), base.network.state_dict()[name].numpy())
    }
    expected = {
        "lora": lambda n: ".attention." in n,
        "last": lambda n: n.startswith("blocks.1."),
        "probe": lambda _: False,
    }[mode]
    assert all(expected(name) for name in moved)
    assert bool(moved) == (mode != "probe")
    assert done.trainable < sum(p.numel() for p in base.network.parameters()) / 2


def test_the_licence_of_weights_goes_with_what_was_made_of_them(cells, tmp_path):
    family = ScfoundationModel.untrained(
        cells, hidden=64, decoder_width=16, decoder_depth=1, decoder_heads=2, **SMALL
    )
    family.config = replace(family.config, licence="research only")
    family.network.config = family.config
    family.save(tmp_path / "published")
    with pytest.warns(LicenceNotice):
        base = trainable_model(tmp_path / "published")
    base.save(tmp_path / "ours")
    with pytest.warns(LicenceNotice):
        cellweave.load(tmp_path / "ours")
