"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.cli.app import main
from cellweave.errors import CellweaveError, StateMismatchError, UnreadableFileError
from cellweave_cellplm import CellplmModel
from cellweave_nn.checkpoints.hostile import hostile_pickles, hostile_safetensors

from .conftest import cells, ensembl, random_state

TINY = {"embedder.norm0.weight": torch.zeros(4, 4)}
PICKLES, SAFE = list(hostile_pickles(TINY, "")), list(hostile_safetensors(TINY))
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


@pytest.mark.parametrize("case", [("pt", n) for n in PICKLES] + [("st", n) for n in SAFE])
def test_hostile_weights(case, folder, tmp_path):
    kind, name = case
    canary = tmp_path / "canary"
    if kind == "pt":
        (folder / WEIGHTS).write_bytes(hostile_pickles(needed(), canary)[name])
    else:
        (folder / WEIGHTS).unlink()
        data = hostile_safetensors(needed())[name]
        (folder / "model.safetensors").write_bytes(data)
    with pytest.raises((UnreadableFileError, StateMismatchError)) as caught:
        CellplmModel.load(folder)
    assert str(folder) in str(caught.value)
    assert not canary.exists()


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


@pytest.mark.parametrize("name", [WEIGHTS, SETTINGS])
def test_missing_files(name, folder):
    (folder / name).unlink()
    with pytest.raises(UnreadableFileError, match=re.escape(name)):
        CellplmModel.load(folder)


def test_check_prints_what_a_user_reports(folder, capsys):
    assert main(["models", "check", str(folder)]) == 0
    said = capsys.readouterr().out
    for part in ("family: cellplm", "embedding of the example cell", "latent.mean.weight"):
        assert part in said
    assert main(["models"]) == 0
    assert "cellplm: CellPLM" in capsys.readouterr().out
