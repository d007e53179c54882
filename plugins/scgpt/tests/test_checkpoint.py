"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.errors import CellweaveError, StateMismatchError
from cellweave_nn.testing.published import PublishedFilesSuite
from cellweave_scgpt import ScgptModel

from .conftest import cells, publish, random_state

TINY = {"encoder.embedding.weight": torch.zeros(4, 4)}


def test_every_key_is_told(folder):
    report = ScgptModel.load(folder).key_report
    assert report.ignored == {}
    assert report.new == ()
    assert set(report.used) == set(random_state())


@pytest.mark.parametrize("container", ["ddp", "trainer", "safetensors", "file", "adversarial"])
def test_other_containers(container, folder, tmp_path):
    expected = ScgptModel.load(folder).embed(cells()).values
    state, path = random_state(), folder
    if container == "ddp":
        state = {f"module.{k}": v for k, v in state.items()}
    if container == "trainer":
        state = {"model_state_dict": state, "epoch": 3, "loss": np.float32(1)}
    if container == "adversarial":
        state["grad_reverse_discriminator.out_layer.weight"] = torch.zeros(2, 32)
    torch.save(state, folder / "best_model.pt")
    if container == "safetensors":
        (folder / "best_model.pt").unlink()
        save_file(state, folder / "model.safetensors")
    if container == "file":
        path = folder / "best_model.pt"
    model = cellweave.load(path)
    assert len(model.key_report.ignored) == (container == "adversarial")
    assert np.array_equal(model.embed(cells()).values, expected)


def test_heads_that_read_batch_labels_are_told(folder):
    state = random_state()
    state["batch_encoder.embedding.weight"] = torch.zeros(3, 32)
    state["decoder.fc.0.weight"] = torch.zeros(32, 64)
    torch.save(state, folder / "best_model.pt")
    model = ScgptModel.load(folder)
    assert model.network.expression is None
    assert "not used by embeddings" in model.key_report.ignored["decoder.fc.0.weight"]


def test_multi_omic_weights_give_the_vectors_that_the_heads_do_not_touch(folder):
    expected = ScgptModel.load(folder).embed(cells()).values
    state = random_state()
    for name in ("weight", "bias"):
        state[f"mod_encoder.enc_norm.{name}"] = torch.zeros(32)
    state["mod_encoder.embedding.weight"] = torch.zeros(5, 32)
    state["decoder.fc.0.weight"] = torch.zeros(32, 64)
    state["mvc_decoder.W.weight"] = torch.zeros(64, 32)
    torch.save(state, folder / "best_model.pt")
    model = cellweave.load(folder)
    assert model.network.expression is None
    assert "modality" in model.key_report.ignored["mod_encoder.embedding.weight"]
    assert np.array_equal(model.embed(cells()).values, expected)
    # Proteins are names of the vocabulary like any other, `p_` in front.
    named = json.loads((folder / "vocab.json").read_text())
    renamed = {("p_CD3" if g == "GENE5" else g): i for g, i in named.items()}
    (folder / "vocab.json").write_text(json.dumps(renamed))
    both = cells()
    both.var_names = ["p_CD3" if g == "GENE5" else g for g in both.var_names]
    assert np.array_equal(cellweave.load(folder).embed(both).values, expected)


VOCABULARIES = {
    "of another model": (json.dumps({f"G{i}": i for i in range(50)}), "50 names (53 with"),
    "with a gap": (json.dumps({f"G{i}": i + (i > 3) for i in range(70)}), "first that is wrong"),
    "with text": (json.dumps({f"G{i}": str(i) for i in range(70)}), "odd entries"),
    "a list": (json.dumps(["a"]), "holds a list"),
    "cut": ('{"A": 0, "B"', "no JSON"),
    "deep": ("[" * 200_000, "no JSON"),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_vocabularies_that_do_not_fit(name, folder):
    text, said = VOCABULARIES[name]
    (folder / "vocab.json").write_text(text)
    with pytest.raises(CellweaveError, match=re.escape(said)):
        ScgptModel.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embsize": 64}, "embsize=64, the weights have 32"),
        ({"nlayers": 3}, "nlayers=3, the weights have 2"),
        ({"d_hid": 10**12}, "expected a positive whole number"),
        ({"nheads": 5}, "does not divide"),
        ({"nheads": None}, "nheads=None"),
        ({"pad_value": "x"}, "pad_value='x'"),
    ],
)
def test_settings_that_do_not_fit(change, said, folder):
    values = json.loads((folder / "args.json").read_text())
    (folder / "args.json").write_text(json.dumps(values | change))
    with pytest.raises(StateMismatchError, match=re.escape(said)):
        ScgptModel.load(folder)


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = ScgptModel
    weights = "best_model.pt"
    missing = (
        ("args.json", r"args\.json"),
        ("vocab.json", r"vocab\.json"),
        ("best_model.pt", r"best_model\.pt"),
    )
    tensor = "blocks.0.attention.qkv.weight"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()
