"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.errors import CellweaveError, StateMismatchError, UnreadableFileError
from cellweave_genemamba import GenemambaModel
from cellweave_nn.testing.hostile import hostile_tables
from cellweave_nn.testing.published import PublishedFilesSuite

from .conftest import LENGTH, cells, genes, publish, random_state

TINY = {"embeddings.weight": torch.zeros(4, 4)}
TABLES = list(hostile_tables({"a": 1}, ""))


@pytest.mark.parametrize("fuse", ["mean", "gate"])
def test_every_key_is_told(fuse, tmp_path):
    report = GenemambaModel.load(publish(tmp_path / "weights", fuse=fuse)).key_report
    assert report.ignored == {}
    assert report.new == ()
    assert set(report.used) == set(random_state(fuse=fuse))


@pytest.mark.parametrize("container", ["bin", "ddp", "prefixed", "headless", "file", "training"])
def test_other_containers(container, folder):
    expected = GenemambaModel.load(folder).embed(cells()).values
    state, path = random_state(), folder
    if container == "prefixed":
        state = {k if k.startswith("lm_head") else f"backbone.{k}": v for k, v in state.items()}
    if container == "headless":
        state = {k: v for k, v in state.items() if not k.startswith("lm_head")}
    if container in ("bin", "ddp"):
        if container == "ddp":
            state = {f"module.{k}": v for k, v in state.items()}
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors")
    if container == "file":
        path = folder / "model.safetensors"
    if container == "training":  # the authors' checkpoint-N has weights alone
        (folder / "config.json").unlink()
        path = folder / "checkpoint-7"
        path.mkdir()
        (folder / "model.safetensors").rename(path / "model.safetensors")
    model = cellweave.load(path)
    assert isinstance(model, GenemambaModel)
    length = 2048 if container == "training" else LENGTH
    assert model.tokenizer.max_length == length
    if container != "training":
        assert np.array_equal(model.embed(cells()).values, expected)


def test_fusion_that_nothing_tells(tmp_path):
    folder = publish(tmp_path / "weights", fuse="gate")
    (folder / "config.json").write_text(json.dumps({"seq_len": LENGTH}))
    with pytest.raises(StateMismatchError, match="give mode='gate' or 'concat'"):
        GenemambaModel.load(folder)
    assert GenemambaModel.load(folder, mode="gate").config.fuse == "gate"
    assert GenemambaModel.load(folder, mode="concat").config.fuse == "concat"
    with pytest.raises(StateMismatchError, match="does not go with"):
        GenemambaModel.load(folder, mode="mean")


@pytest.mark.parametrize("name", TABLES)
def test_hostile_symbols(name, folder, tmp_path):
    canary = tmp_path / "canary"
    # Here text is what is right, and numbers are what is wrong.
    good = dict.fromkeys(genes(), 1)
    attack = hostile_tables(good, canary)
    (folder / "symbol2id.pkl").write_bytes(attack[name])
    if name == "maps to text":
        assert GenemambaModel.load(folder).tokenizer.symbols
    else:
        with pytest.raises(UnreadableFileError, match="symbol2id"):
            GenemambaModel.load(folder)
    assert not canary.exists()


VOCABULARIES = {
    "of another model": ({"model": {"vocab": {"a": 0, "b": 1}}}, "the weights have 52 rows"),
    "with a gap": (
        {"model": {"vocab": {f"g{i}": i + (i > 3) for i in range(52)}}},
        "first that is wrong",
    ),
    "with text": ({"model": {"vocab": {"a": "0"}}}, "odd entries"),
    "without words": ({"model": {"type": "BPE"}}, "no vocabulary"),
    "with a nameless token": ({"model": {"vocab": {}}, "added_tokens": [{"id": 3}]}, "a name"),
    "cut": ('{"model": {"vocab"', "no JSON"),
    "deep": ("[" * 200_000, "no JSON"),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_vocabularies_that_do_not_fit(name, folder):
    content, said = VOCABULARIES[name]
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(CellweaveError, match=re.escape(said)):
        GenemambaModel.load(folder)


def test_missing_vocabulary(folder, tmp_path):
    (folder / "tokenizer.json").rename(tmp_path / "words.json")
    with pytest.raises(UnreadableFileError, match=re.escape("tokenizer.json")):
        GenemambaModel.load(folder)
    assert GenemambaModel.load(folder, tokenizer=tmp_path / "words.json").config.n_ids == 52


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d_model": 512}, "d_model=512, the weights have 24"),
        ({"mamba_layer": 24}, "mamba_layer=24, the weights have 2"),
        ({"vocab_size": 9}, "vocab_size=9, the weights have 52"),
        ({"mode": "max"}, "mode='max'"),
        ({"mode": "gate"}, "does not go with"),
        ({"seq_len": "x"}, "max_position_embeddings='x'"),
    ],
)
def test_settings_that_do_not_fit(change, said, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(StateMismatchError, match=re.escape(said)):
        GenemambaModel.load(folder)


@pytest.mark.parametrize("part", ["A_log", "norm.weight", "conv1d.weight", "in_proj.weight"])
def test_shapes_that_are_not_of_mamba(part, folder):
    state = random_state()
    state[f"mamba_mixer.layers.0.mamba.{part}"] = torch.zeros(5, 5)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(StateMismatchError):
        GenemambaModel.load(folder)


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = GenemambaModel
    known_by_name = False
    weights = "pytorch_model.bin"
    tensor = "blocks.0.mamba.in_proj"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()
