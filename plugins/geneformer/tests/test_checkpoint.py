"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import pickle
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import cellweave
from cellweave.errors import CellweaveError, UnreadableFileError
from cellweave_geneformer import GeneformerModel
from cellweave_nn.testing.hostile import hostile_tables
from cellweave_nn.testing.published import PublishedFilesSuite

from .conftest import bert_config, cells, dictionaries, publish, randomised


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "weights"
    publish(folder)
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    shutil.copytree(kept.parent, tmp_path / "copy")
    return tmp_path / "copy" / "weights"


TINY = {"bert.embeddings.word_embeddings.weight": torch.zeros(4, 4)}
TABLES = list(hostile_tables({"a": 1}, ""))


def test_every_key_is_told(folder):
    model = GeneformerModel.load(folder)
    assert model.key_report.new == ()
    assert set(model.key_report.ignored) <= {
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    }
    assert len(model.key_report.used) == 4 + 1 + 3 * 12 + 5


@pytest.mark.parametrize("container", ["ddp", "bare", "old", "file", "adapters"])
def test_other_containers(container, folder, tmp_path):
    expected = GeneformerModel.load(folder).embed(cells()).values
    state = load_file(folder / "model.safetensors")
    path = folder
    if container == "adapters":
        adapter = tmp_path / "adapter"
        adapter.mkdir()
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "modules_to_save": None}
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        stem = "base_model.model.bert.encoder.layer.0.attention.self.query"
        up = torch.zeros(32, 2)
        tensors = {f"{stem}.lora_A.weight": torch.ones(2, 32), f"{stem}.lora_B.weight": up}
        save_file(tensors, adapter / "adapter_model.safetensors")
        model = GeneformerModel.load(adapter, base=folder)
        assert "LoRA" in model.container
    else:
        if container == "ddp":
            state = {f"module.{k}": v for k, v in state.items()}
        if container == "bare":
            state = {k.removeprefix("bert."): v for k, v in state.items() if k.startswith("bert.")}
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(
                json.dumps(config | {"architectures": ["BertModel"]})
            )
        if container == "old":
            state["bert.embeddings.position_ids"] = torch.arange(40)[None]
        if container == "file":
            path = folder / "pytorch_model.bin"
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
        model = cellweave.load(path)
    assert abs(model.embed(cells()).values - expected).max() < 1e-6


@pytest.mark.parametrize("name", TABLES)
def test_hostile_dictionaries(name, folder, tmp_path):
    canary = tmp_path / "canary"
    file = folder.parent / "geneformer" / "token_dictionary_gc104M.pkl"
    file.write_bytes(hostile_tables(dictionaries("V2")[0], canary)[name])
    with pytest.raises(UnreadableFileError, match="token_dictionary_gc104M"):
        GeneformerModel.load(folder)
    assert not canary.exists()


def test_dictionary_of_another_version(folder):
    home = folder.parent / "geneformer"
    shutil.rmtree(home)
    home.mkdir()
    ids, _ = dictionaries("V1")
    (home / "token_dictionary_gc30M.pkl").write_bytes(pickle.dumps(ids))
    with pytest.raises(UnreadableFileError) as caught:
        GeneformerModel.load(folder)
    for part in ("vocabulary of 64", "token_dictionary_gc30M.pkl with 62 entries", "need"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 10**9}, "hidden_size=1000000000"),
        ({"hidden_size": 64}, "config.json beside them says"),
        ({"num_hidden_layers": 2}, "3 blocks"),
        ({"num_attention_heads": 5}, "does not divide"),
        ({"hidden_act": "__import__('os')"}, "hidden_act"),
        ({"vocab_size": 63}, "vocabulary of 63"),
        ({"model_type": "gpt2"}, "model_type"),
        ({"position_embedding_type": "relative_key"}, "absolute"),
    ],
)
def test_settings_that_do_not_fit(change, said, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CellweaveError) as caught:
        GeneformerModel.load(folder)
    assert said in str(caught.value)


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = GeneformerModel
    weights = "pytorch_model.bin"
    missing = (("gene_median_dictionary*", "gene_median_dictionary"),)
    tensor = "blocks.0.attention.qkv.weight"

    def publish(self, place):
        (place / "model").mkdir(parents=True)
        publish(place / "model")
        return place / "model"

    def state(self):
        ids = randomised(transformers.BertForMaskedLM(bert_config("V2")))
        return {k: v for k, v in ids.state_dict().items() if "decoder" not in k}

    def cells(self):
        return cells()
