"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cellweave.errors import CellweaveError, ConfigError, StateMismatchError, UnreadableFileError
from cellweave_nn.testing.hostile import hostile_pickles
from cellweave_nn.testing.published import PublishedFilesSuite
from cellweave_scmulan import ScmulanModel

from .conftest import ARGS, GENES, HEADS, META, TOKENS, cells, publish, random_state

TINY = {"transformer.wte.weight": torch.zeros(4, 4)}
PICKLES = list(hostile_pickles(TINY, ""))
WEIGHTS = "ckpt_scMulan.pt"


def test_every_key_is_told(folder):
    report = ScmulanModel.load(folder).key_report
    assert report.ignored == {}
    assert report.new == ()
    assert set(report.used) == set(random_state())


def test_without_bias_norms_keep_zeros(tmp_path):
    state = random_state(bias=False)
    report = ScmulanModel.load(publish(tmp_path / "weights", state, bias=False)).key_report
    assert set(report.used) == set(state)
    assert len(report.new) == 5


@pytest.mark.parametrize("container", ["ddp", "compiled", "old", "plain", "safetensors", "json"])
def test_other_containers(container, folder):
    expected = ScmulanModel.load(folder).embed(cells()).values
    state, companions = random_state(), {}
    content = {"model": state, "model_args": ARGS}
    if container in ("ddp", "compiled"):
        prefix = {"ddp": "module.", "compiled": "_orig_mod."}[container]
        content["model"] = {f"{prefix}{k}": v for k, v in state.items()}
        torch.save(content, folder / WEIGHTS)
    if container == "old":
        torch.save(content, folder / WEIGHTS, _use_new_zipfile_serialization=False)
    if container == "plain":
        torch.save(state, folder / WEIGHTS)
        companions = {"heads": str(HEADS)}
    if container == "safetensors":
        (folder / WEIGHTS).unlink()
        save_file(state, folder / "model.safetensors")
        companions = {"heads": str(HEADS)}
    if container == "json":
        (folder / "meta_info.pt").unlink()
        lists = {k: sorted(v) if isinstance(v, set) else v for k, v in META.items()}
        (folder / "meta_info.json").write_text(json.dumps(lists))
    assert ScmulanModel.recognises(folder)
    model = ScmulanModel.load(folder, **companions)
    assert np.array_equal(model.embed(cells()).values, expected)


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_lists(name, folder, tmp_path):
    canary = tmp_path / "canary"
    data = hostile_pickles({"a": torch.zeros(2, 2), "b": torch.ones(3)}, canary)[name]
    (folder / "meta_info.pt").write_bytes(data)
    with pytest.raises((UnreadableFileError, StateMismatchError)) as caught:
        ScmulanModel.load(folder)
    assert str(folder) in str(caught.value)
    assert not canary.exists()


LISTS = {
    "of another model": ({"token_set": TOKENS[:-1]}, "the weights have 34 rows"),
    "twice": ({"token_set": [*TOKENS[:-1], TOKENS[0]]}, "lacks 'GENE22'"),
    "without the task": ({"token_set": ["x" if t == "<PCT>" else t for t in TOKENS]}, "'<PCT>'"),
    "with an unknown gene": ({"gene_set": [*GENES, "NEW"]}, "lacks 'NEW'"),
    "with a gene twice": ({"gene_set": [*GENES, "GENE1"]}, "'GENE1' twice"),
    "with numbers": ({"gene_set": [1, 2]}, "holds more than names"),
    "without genes": ({"gene_set": None}, "has no list 'gene_set'"),
    "with a set of tokens": ({"token_set": set(TOKENS)}, "has no list 'token_set'"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_do_not_fit(name, folder):
    change, said = LISTS[name]
    torch.save(META | change, folder / "meta_info.pt")
    with pytest.raises(CellweaveError, match=re.escape(said)):
        ScmulanModel.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_embd": 32}, "n_embd=32, the weights have 16"),
        ({"n_layer": 3}, "n_layer=3, the weights have 2"),
        ({"vocab_size": 7}, "vocab_size=7, the weights have 34"),
        ({"expression_level": 9}, "expression_level=9, the weights have 10"),
        ({"n_head": 5}, "width 16 with 5 heads"),
        ({"n_head": None}, "n_head=None"),
        ({"ele": 0}, "ele=0, expected 1"),
    ],
)
def test_settings_that_do_not_fit(change, said, tmp_path):
    folder = publish(tmp_path / "weights", **change)
    with pytest.raises(StateMismatchError, match=re.escape(said)):
        ScmulanModel.load(folder)


def test_heads_and_files_are_told(folder):
    with pytest.raises(ConfigError, match="no number of attention heads"):
        ScmulanModel.load(folder, heads="x")
    torch.save(random_state(), folder / WEIGHTS)
    with pytest.raises(StateMismatchError, match="give it as `heads`"):
        ScmulanModel.load(folder)
    torch.save(random_state(), folder / "other.pt")
    with pytest.raises(ConfigError, match=re.escape("other.pt")):
        ScmulanModel.load(folder)


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = ScmulanModel
    weights = WEIGHTS
    missing = (
        ("meta_info.pt", r"meta_info\.pt"),
        (WEIGHTS, re.escape(WEIGHTS)),
    )
    tensor = "blocks.0.attention.qkv"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()

    def load(self, path):
        return ScmulanModel.load(path, heads=str(HEADS))
