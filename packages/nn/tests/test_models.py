"""A model folder gives back the same model; embeddings keep the order of the input."""

from __future__ import annotations

import copy
import json

import anndata
import numpy as np
import pytest
import torch

import cellweave
from cellweave.errors import (
    ConfigError,
    DataError,
    IntegrityError,
    StateMismatchError,
    UnknownComponentError,
)
from cellweave.storage import verify
from cellweave_nn.adapt.cost import neighbour_accuracy
from cellweave_nn.adapt.distil import distil
from cellweave_nn.adapt.finetune import FinetuneConfig, finetune, macro_f1
from cellweave_nn.adapt.lora import LoRALinear, add_lora, merge_lora
from cellweave_nn.adapt.prune import head_importance, prune_heads
from cellweave_nn.adapt.quantise import Int8Linear, cost_of, quantise
from cellweave_nn.adapt.shrunk import remove_heads
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.layout import Padded
from cellweave_nn.layers.tags import NO_TAGS
from cellweave_nn.models.cell_model import load_model
from cellweave_nn.models.folder import write_folder
from cellweave_nn.tokenizers import NonzeroTokenizer
from cellweave_nn.training.settings import TrainingSettings


@pytest.fixture
def model(trained_run):
    return load_model(trained_run / "run" / "model")


def test_embedding_is_in_input_order_for_any_batch_size(model, adata):
    whole = model.embed(adata, batch_size=64)
    assert whole.names.tolist() == adata.obs_names.tolist()
    assert whole.values.dtype == np.float32
    for size in (1, 7):
        np.testing.assert_allclose(
            model.embed(adata, batch_size=size).values, whole.values, atol=2e-6
        )
    turned = model.embed(adata[::-1].copy(), batch_size=7)
    np.testing.assert_allclose(turned.values[::-1], whole.values, atol=2e-6)
    hidden = model.embed(adata, layer=1)
    assert hidden.values.shape == (60, 16)
    assert not np.allclose(hidden.values, whole.values)


def test_the_folder_is_loaded_by_core_and_gives_the_same(model, adata, tmp_path):
    folder = tmp_path / "copy"
    model.save(folder)
    assert verify(folder) == []
    again = cellweave.load(folder)
    assert type(again) is type(model)
    np.testing.assert_array_equal(again.embed(adata).values, model.embed(adata).values)
    text = (folder / "README.md").read_text()
    assert "# Tiny" in text
    assert "Licence of the weights: CC0-1.0" in text
    assert "Licence of the data: not stated" in text


def test_embedding_separates_what_training_saw(model, adata):
    values = model.embed(adata).values
    kind = (adata.obs["cell_type"] == "b").to_numpy()
    gap = np.linalg.norm(values[kind].mean(0) - values[~kind].mean(0))
    within = np.linalg.norm(values[kind] - values[kind].mean(0), axis=1).mean()
    assert gap > within


def test_gene_embeddings_and_attention(model, adata):
    static = model.gene_embeddings()
    assert static.values.shape == (33, 16)
    contextual = model.contextual_gene_embeddings(adata)
    assert contextual.names.tolist() == [f"g{i}" for i in range(30)]
    cells = list(model.attention(adata[:3].copy()))
    assert [c.name for c in cells] == ["cell0", "cell1", "cell2"]
    assert cells[0].ids.tolist() == model.tokenizer.encode(adata[:1]).ids.tolist()
    assert cells[0].weights[1].shape == (2, len(cells[0].ids), len(cells[0].ids))
    np.testing.assert_allclose(cells[0].weights[0].sum(-1), 1.0, atol=1e-5)


def test_damaged_and_foreign_folders_are_refused(model, tmp_path):
    folder = tmp_path / "model"
    model.save(folder)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 4
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_model(folder)
    with pytest.raises(DataError, match="is not a model folder"):
        load_model(tmp_path)


def changed(model, tmp_path, **changes):
    from cellweave_nn.models.folder import FolderContent

    whole = torch.nn.ModuleDict({"encoder": model.encoder, "heads": model.heads})
    weights = whole.state_dict()
    config = model.config
    if "drop" in changes:
        weights.pop(changes["drop"])
        weights["extra"] = torch.zeros(1)
    if "encoder" in changes:
        encoder = config.encoder.model_copy(update={"name": changes["encoder"]})
        config = config.model_copy(update={"encoder": encoder})
    content = FolderContent(
        config=config, weights=weights, tokenizer=model.tokenizer.state(), card=""
    )
    write_folder(tmp_path / "changed", content)
    return tmp_path / "changed"


def test_a_load_is_strict(model, tmp_path):
    with pytest.raises(
        StateMismatchError, match=r"Missing: encoder\.input\.norm\.bias\. Not used: extra"
    ):
        load_model(changed(model, tmp_path, drop="encoder.input.norm.bias"))


def test_a_config_names_components_and_nothing_else(model, tmp_path):
    with pytest.raises(UnknownComponentError, match=r"Unknown encoder 'os\.system'"):
        load_model(changed(model, tmp_path, encoder="os.system"))
    config = json.loads((tmp_path / "changed" / "config.json").read_text())
    assert set(config) == {
        "kind", "format", "encoder", "objectives", "special", "labels", "seed", "version",
        "provenance", "precision", "removed_heads",
    }  # fmt: skip


def test_cells_without_known_genes_are_refused(model, adata):
    other = adata.copy()
    other.var_names = [f"x{i}" for i in range(30)]
    with pytest.raises(DataError, match="None of the 30 features"):
        model.embed(other)
    empty = adata.copy()
    empty.X = empty.X.multiply(np.arange(60)[:, None] != 4).tocsr()
    with pytest.raises(DataError, match="1 cells have no token in the vocabulary \\('cell4'\\)"):
        model.embed(empty)


@pytest.mark.parametrize("mode", ["full", "last", "lora", "probe"])
def test_finetuning_learns_labels_and_trains_what_it_says(trained_run, adata, tmp_path, mode):
    config = FinetuneConfig(
        model=trained_run / "run" / "model",
        data=trained_run / "cells.h5ad",
        label="cell_type",
        group="donor",
        output=tmp_path / mode,
        mode=mode,
        rank=2,
        training=TrainingSettings(steps=60, learning_rate=2e-2, cells_per_slot=30, device="cpu"),
    )
    done = finetune(config)
    assert done.accuracy > 0.85
    assert done.labels == ("a", "b")
    before = load_model(config.model)
    after = load_model(tmp_path / mode / "model")
    logits = after.predict(adata)
    assert (logits.argmax(1) == (adata.obs["cell_type"] == "b")).mean() > 0.9
    moved = {
        name
        for (name, a), b in zip(
            before.encoder.named_parameters(), after.encoder.parameters(), strict=True
        )
        if not torch.equal(a, b)
    }
    expected = {
        "probe": lambda n: False,
        "last": lambda n: n.startswith("stack.blocks.1."),
        "lora": lambda n: n.endswith(("attention.qkv.weight", "attention.out.weight")),
        "full": lambda n: True,
    }[mode]
    assert all(expected(name) for name in moved)
    assert bool(moved) == (mode != "probe")


def test_lora_starts_as_the_model_and_merges_into_it():
    torch.manual_seed(0)
    net = torch.nn.Sequential()
    net.out = torch.nn.Linear(6, 4)
    x = torch.randn(5, 6)
    before = net.out(x)
    add_lora(net, rank=2, alpha=4)
    assert isinstance(net.out, LoRALinear)
    assert torch.equal(net.out(x), before)
    net.out.b.data.normal_()
    adapted = net.out(x)
    merge_lora(net)
    assert type(net.out) is torch.nn.Linear
    torch.testing.assert_close(net.out(x), adapted)


def test_macro_f1_by_hand():
    truth, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    assert macro_f1(predicted, truth) == pytest.approx((2 / 4 + 4 / 6) / 2)


@pytest.mark.parametrize(("to", "least", "size"), [("int8", 0.99, 0.6), ("bf16", 0.999, 0.55)])
def test_quantised_models_tell_their_cost_and_are_saved_small(
    model, adata, tmp_path, to, least, size
):
    small = quantise(model, to=to)
    cost = cost_of(model, small, adata, label_key="cell_type")
    assert cost.lowest_cosine > least
    assert cost.bytes_after < size * cost.bytes_before
    assert cost.accuracy_after == pytest.approx(cost.accuracy_before, abs=0.05)
    assert not any(isinstance(m, Int8Linear) for m in model.encoder.modules())
    small.save(tmp_path / to)
    again = load_model(tmp_path / to)
    np.testing.assert_array_equal(again.embed(adata).values, small.embed(adata).values)
    model.save(tmp_path / "whole")
    whole, kept = ((tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", to))
    assert kept < 0.75 * whole
    with pytest.raises(ConfigError, match=f"The model is {to} already"):
        quantise(again)
    settings = FinetuneConfig(model=tmp_path / to, data=tmp_path, label="a", output=tmp_path / "o")
    with pytest.raises(ConfigError, match=f"is {to}, which cannot be trained"):
        finetune(settings)


def test_pruned_heads_are_gone_and_the_rest_gives_what_zeroed_heads_give(model, adata, tmp_path):
    """The independent path: the same heads silenced in a copy of full size."""
    importance = head_importance(model, adata)
    assert importance.shape == (2, 2)
    pruned = prune_heads(model, adata, share=0.5)
    removed = pruned.config.removed_heads
    assert sum(map(len, removed.values())) == 2
    zeroed = copy.deepcopy(model)
    for name, heads in removed.items():
        layer = zeroed.encoder.get_submodule(name)
        assert heads == [int(importance[int(name.split(".")[2])].argmin())]
        for head in heads:
            with torch.no_grad():
                layer.out.weight[:, head * layer.head_width : (head + 1) * layer.head_width] = 0.0
    np.testing.assert_allclose(pruned.embed(adata).values, zeroed.embed(adata).values, atol=1e-6)
    assert pruned.encoder.get_submodule(next(iter(removed))).qkv.weight.shape == (24, 16)
    assert pruned.n_parameters < model.n_parameters
    pruned.save(tmp_path / "pruned")
    again = load_model(tmp_path / "pruned")
    np.testing.assert_array_equal(again.embed(adata).values, pruned.embed(adata).values)
    assert cost_of(model, again, adata, label_key="cell_type").accuracy_after > 0.9
    small = quantise(again, to="bf16")
    small.save(tmp_path / "both")
    assert load_model(tmp_path / "both").config.removed_heads == removed
    with pytest.raises(ConfigError, match="pruned or quantised already"):
        prune_heads(again, adata, share=0.5)
    with pytest.raises(ConfigError, match=r"share is 1\.0"):
        prune_heads(model, adata, share=1.0)


@pytest.mark.parametrize("fused", [True, False])
def test_removing_heads_by_hand(fused):
    torch.manual_seed(0)
    layer = SelfAttention(12, 3, fused=fused)
    x, layout = torch.randn(2, 5, 12), Padded(is_token=None)
    parts = layer.project(x)
    without = [t[..., [0, 2], :] for t in parts]
    mixed = layer.kernel(*without, layout, NO_TAGS).flatten(-2)
    columns = [*range(4), *range(8, 12)]
    expected = mixed @ layer.out.weight[:, columns].T + layer.out.bias
    remove_heads(layer, [1])
    torch.testing.assert_close(layer(x, layout), expected)
    with pytest.raises(ConfigError, match="At least one must stay"):
        remove_heads(layer, [0, 1])


def test_neighbours_name_cells_by_hand():
    line = np.array([[1, 0.0], [1, 0.1], [1, 0.2], [0.0, 1], [0.1, 1], [1, 0.05]])
    labels = np.array(["a", "a", "a", "b", "b", "b"])
    assert neighbour_accuracy(line, labels, k=1) == pytest.approx(3 / 6)


def test_a_student_learns_its_teacher(model, adata):
    training = TrainingSettings(steps=60, learning_rate=5e-3, cells_per_slot=20)
    done = distil(model, adata, parameters={"depth": 1, "width": 8}, training=training)
    assert np.mean(done.losses[-5:]) < 0.5 * np.mean(done.losses[:3])
    assert done.model.n_parameters < model.n_parameters
    assert done.model.embed(adata).values.shape == (60, 8)


def test_nonzero_tokenizer_orders_and_limits(adata):
    adata = adata[:4].copy()
    plain = NonzeroTokenizer().fit(adata).encode(adata)
    dense = adata.X.toarray()
    for i in range(4):
        own = slice(plain.offsets[i], plain.offsets[i + 1])
        assert plain.ids[own].tolist() == (np.flatnonzero(dense[i]) + 3).tolist()
        assert plain.values[own].tolist() == dense[i][dense[i] != 0].tolist()
    ranked = NonzeroTokenizer(order="rank", limit=3).fit(adata).encode(adata)
    assert ranked.lengths.tolist() == [3] * 4
    order = np.lexsort((np.arange(30), -dense[0]))[:3]
    assert ranked.ids[:3].tolist() == (order + 3).tolist()
    zeros = NonzeroTokenizer(with_zeros=True).fit(adata).encode(adata)
    assert zeros.values.reshape(4, 30).tolist() == dense.tolist()
    shuffled = adata[:, ::-1].copy()
    again = NonzeroTokenizer().fit(adata).encode(shuffled)
    assert again.ids.tolist() == plain.ids.tolist()
    assert again.values.tolist() == plain.values.tolist()
    fitted = NonzeroTokenizer(order="rank").fit(adata)
    back = NonzeroTokenizer.from_state(fitted.state())
    assert back.encode(adata).ids.tolist() == fitted.encode(adata).ids.tolist()


def test_embedding_leaves_the_cells_as_they_are(model, adata):
    before = adata.copy()
    model.embed(adata)
    assert (before.X != adata.X).nnz == 0
    assert adata.uns == before.uns
    assert isinstance(adata, anndata.AnnData)
