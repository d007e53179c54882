"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.errors import CellweaveError, UnreadableFileError
from cellweave_cellplm import CellplmModel
from cellweave_nn.testing.published import PublishedFilesSuite

from .conftest import cells, ensembl, publish, random_state

TINY = {"embedder.norm0.weight": torch.zeros(4, 4)}
WEIGHTS, SETTINGS = "20230926_85M.best.ckpt", "20230926_85M.config.json"


def needed():
    """The state with what is used alone, so that a hostile change always hits something used."""
    unused = ("norm0", "pe_enc", "decoder", ".var.", "y_mu", "y_var")
    return {k: v for k, v in random_state().items() if not any(u in k for u in unused)}


def test_every_key_is_told(folder):
    report = CellplmModel.load(folder).key_report
    assert report.new == ()
    assert set(report.used) == set(needed())
    assert set(report.used) | set(report.ignored) == set(random_state())
    assert "not used by embeddings" in report.ignored["decoder.out_layer.dec_disp"]


@pytest.mark.parametrize("container", ["plain", "ddp", "old", "safetensors", "file", "needed"])
def test_other_containers(container, folder, tmp_path):
    expected = CellplmModel.load(folder).embed(cells()).values
    state, path = random_state(), folder
    if container == "plain":
        torch.save(state, folder / WEIGHTS)
    if container == "ddp":
        wrapped = {"model_state_dict": {f"module.{k}": v for k, v in state.items()}}
        torch.save(wrapped, folder / WEIGHTS)
    if container == "old":
        torch.save(state, folder / WEIGHTS, _use_new_zipfile_serialization=False)
    if container == "safetensors":
        (folder / WEIGHTS).unlink()
        save_file(state, folder / "model.safetensors")
    if container == "file":
        path = folder / WEIGHTS
    if container == "needed":
        torch.save(needed(), folder / WEIGHTS)
    assert np.array_equal(cellweave.load(path).embed(cells()).values, expected)


def test_settings_from_elsewhere(folder, tmp_path):
    expected = CellplmModel.load(folder).embed(cells()).values
    moved = (folder / SETTINGS).rename(tmp_path / "settings.json")
    found = CellplmModel.load(folder, config=moved).embed(cells()).values
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"enc_hid": 32}, "enc_hid=32, the weights have 16"),
        ({"enc_layers": 3}, "enc_layers=3, the weights have 2"),
        ({"num_clusters": 16}, "num_clusters=16, the weights have 5"),
        ({"post_latent_dim": 10**12}, "expected a positive whole number"),
        ({"enc_head": 3}, "does not divide by 3 heads"),
        ({"enc_mod": "performer"}, "enc_mod='performer', expected 'flowformer'"),
        ({"latent_mod": None}, "latent_mod=None, expected 'gmvae'"),
        ({"gene_list": ensembl(29)}, "lists 29 genes; the weights have 30 rows"),
        ({"gene_list": "ENSG"}, "no gene_list"),
        ({"gene_list": [*ensembl(29), ensembl()[0]]}, "twice"),
    ],
)
def test_settings_that_do_not_fit(change, said, folder):
    values = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(values | change))
    with pytest.raises(CellweaveError, match=re.escape(said)):
        CellplmModel.load(folder)


BROKEN = {"a list": "[1]", "cut": '{"enc_mod": "flow', "deep": "[" * 200_000, "empty": ""}


@pytest.mark.parametrize("name", BROKEN)
def test_settings_that_are_broken(name, folder):
    (folder / SETTINGS).write_text(BROKEN[name])
    with pytest.raises(UnreadableFileError):
        CellplmModel.load(folder)


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = CellplmModel
    weights = WEIGHTS
    missing = tuple((name, re.escape(name)) for name in (WEIGHTS, SETTINGS))
    tensor = "latent.mean.weight"

    def publish(self, place):
        return publish(place)

    def state(self):
        return needed()

    def cells(self):
        return cells()
