"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.errors import CellweaveError, StateMismatchError, UnreadableFileError
from cellweave_nicheformer import NicheformerModel
from cellweave_nn.testing.published import PublishedFilesSuite

from .conftest import HYPER, cells, fine_tuned, genes, publish, random_state

TINY = {"embeddings.weight": torch.zeros(4, 4)}
UNUSED = ("encoder_layer.", "pooler_head.", "cls_head.")


def test_every_key_is_told(published):
    report = NicheformerModel.load(published).key_report
    unused = {k for k in random_state() if k.startswith(UNUSED)}
    assert set(report.ignored) == unused
    assert set(report.used) == set(random_state()) - unused
    assert report.new == ()


def test_every_key_of_a_fine_tuned_file_is_told(tmp_path):
    content = fine_tuned("density_regression", 1, extractor=True)
    content["state_dict"]["backbone.pos"] = torch.arange(30)
    report = NicheformerModel.load(publish(tmp_path, content)).key_report
    assert "pos" in report.ignored
    assert {"extractor.weight", "extractor.bias", "linear_head.weight"} <= report.used.keys()
    assert {"pooler_head.weight", "cls_head.weight"} <= report.ignored.keys()
    assert report.new == ()


def hugging_face(folder):
    """Write the folder on Hugging Face: safetensors, settings and vocabulary, no means."""
    folder.mkdir()
    state = {f"nicheformer.{k}": v for k, v in random_state().items() if "encoder_layer" not in k}
    save_file(state, folder / "model.safetensors")
    settings = {k: v for k, v in HYPER.items() if k not in ("specie", "assay", "modality")}
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "nicheformer"}))
    ids = {"[PAD]": 0, "[MASK]": 1, "[CLS]": 2, "[MODALITY_dissociated]": 3}
    ids |= {g: 30 + i for i, g in enumerate(genes())}
    (folder / "vocab.json").write_text(json.dumps(ids))
    return folder


def test_hugging_face_without_and_with_means(published, tmp_path):
    folder = hugging_face(tmp_path / "hf")
    model, data = cellweave.load(folder), cells(6)
    assert isinstance(model, NicheformerModel)
    assert model.tokenizer.technologies == ["all"]
    tokens, counts = model.tokenizer.encode(data), data.X.toarray()[0]
    ids = tokens.ids[3 : tokens.offsets[1]] - 30
    assert len(ids) > 10
    assert np.all(np.diff(counts[ids]) <= 0)
    near = published.parent / "data" / "model_means"
    whole = NicheformerModel.load(folder, means=near)
    expected = NicheformerModel.load(published).embed(data).values
    assert np.array_equal(whole.embed(data).values, expected)


@pytest.mark.parametrize("container", ["plain", "ddp", "old", "safetensors", "folder"])
def test_other_containers(container, published):
    expected = NicheformerModel.load(published).embed(cells()).values
    state, path = random_state(), published
    if container == "ddp":
        state = {f"module.{k}": v for k, v in state.items()}
    if container == "old":
        state["pos"] = torch.arange(30)
    if container == "folder":
        path = published.parent
    elif container == "safetensors":
        path = published.with_suffix(".safetensors")
        published.unlink()
        save_file(state, path)
    else:
        torch.save(state, published)
    if container != "folder":
        (published.parent / "config.json").write_text(json.dumps(HYPER))
    model = cellweave.load(path)
    assert np.array_equal(model.embed(cells()).values, expected)


COMPANIONS = {
    "cut order": ("model.h5ad", lambda b: b[: len(b) // 2], "model.h5ad"),
    "order that is text": ("model.h5ad", lambda _: b"<html>quota</html>", "model.h5ad"),
    "empty order": ("model.h5ad", lambda _: b"", "it is empty"),
    "cut means": ("merfish_mean_script.npy", lambda b: b[:90], "merfish_mean_script.npy"),
    "means that are text": ("merfish_mean_script.npy", lambda _: b"x", "merfish_mean_script"),
}


@pytest.mark.parametrize("name", COMPANIONS)
def test_hostile_companions(name, published):
    file, change, said = COMPANIONS[name]
    path = published.parent / "data" / "model_means" / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UnreadableFileError, match=re.escape(said)):
        NicheformerModel.load(published)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones(7), "holds 7 factors for 60 genes"),
        (np.full(60, np.inf), "holds infinity"),
        (np.full(60, np.nan), "no number at all"),
        (np.array([{"a": 1}] * 60, dtype=object), "Give an .npy of numbers"),
    ],
)
def test_means_that_do_not_fit(values, said, published):
    path = published.parent / "data" / "model_means" / "xenium_mean_script.npy"
    np.save(path, values, allow_pickle=True)
    with pytest.raises(UnreadableFileError, match=re.escape(said)):
        NicheformerModel.load(published)


VOCABULARIES = {
    "of another model": ({f"g{i}": 30 + i for i in range(9)}, "names 9 genes"),
    "with a gap": ({f"g{i}": 30 + i + (i > 3) for i in range(60)}, "names 60 genes"),
    "with text": ({"g": "30"}, "odd entries"),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_vocabularies_that_do_not_fit(name, tmp_path):
    ids, said = VOCABULARIES[name]
    folder = hugging_face(tmp_path / "hf")
    (folder / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(CellweaveError, match=re.escape(said)):
        NicheformerModel.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim_model": 64}, "dim_model=64, the weights have 32"),
        ({"nlayers": 12}, "nlayers=12, the weights have 3"),
        ({"nheads": 5}, "nheads=5"),
        ({"nheads": 0}, "nheads=0"),
        ({"context_length": 1500}, "context_length=1500"),
        ({"learnable_pe": False}, "learnable_pe=False"),
    ],
)
def test_settings_that_do_not_fit(change, said, published):
    content = {"state_dict": random_state(), "hyper_parameters": HYPER | change}
    torch.save(content, published)
    with pytest.raises(StateMismatchError, match=re.escape(said)):
        NicheformerModel.load(published)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"extract_layers": [11]}, "extract_layers=[11]"),
        ({"function_layers": "max"}, "function_layers='max'"),
        ({"supervised_task": "cure"}, "supervised_task='cure'"),
        ({"supervised_task": "niche_classification", "n_classes": 7}, "n_classes=7"),
    ],
)
def test_heads_that_do_not_fit(settings, said, tmp_path):
    content = fine_tuned("niche_regression", 4)
    content["hyper_parameters"] |= settings
    with pytest.raises(StateMismatchError, match=re.escape(said)):
        NicheformerModel.load(publish(tmp_path, content))


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = NicheformerModel
    weights = "nicheformer.ckpt"
    safe = "nicheformer.safetensors"
    missing = (
        ("model.h5ad", r"model\.h5ad"),
        ("*_mean_script.npy", "_mean_script"),
    )
    tensor = "blocks.0.attention.qkv"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()
