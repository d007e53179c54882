"""Every container gives the same tensors; every hostile file ends in one clear error."""

import argparse
import json
import pickle
from pathlib import PosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cellweave.errors import CellweaveError, StateMismatchError, UnreadableFileError
from cellweave_nn.checkpoints import (
    Limits,
    fill,
    merge_lora,
    read_checkpoint,
    read_pickled_table,
    take,
)
from cellweave_nn.testing.hostile import hostile_pickles, hostile_safetensors, hostile_tables


def network():
    torch_generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=torch_generator)
    return module


STATE = dict(network().state_dict())


def same(tensors):
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[k], STATE[k]) for k in STATE)


CONTAINERS = {
    "plain": STATE,
    "ddp": {f"module.{k}": v for k, v in STATE.items()},
    "compiled ddp": {f"_orig_mod.module.{k}": v for k, v in STATE.items()},
    "trainer": {"epoch": 3, "model_state_dict": STATE, "loss": np.float32(2.5)},
    "lightning": {
        "state_dict": STATE,
        "pytorch-lightning_version": "2.1",
        "hyper_parameters": {"lr": 1e-3, "dim": np.int64(64), "path": PosixPath("/x")},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": []}],
    },
    "namespace": {"model": STATE, "args": argparse.Namespace(a=1)},
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("old", [False, True])
def test_containers_of_torch(name, old, tmp_path):
    path = tmp_path / "x.pt"
    torch.save(CONTAINERS[name], path, _use_new_zipfile_serialization=not old)
    found = read_checkpoint(path)
    assert same(found.tensors), found.container
    if name == "lightning":
        assert found.extra["pytorch-lightning_version"] == "2.1"


def test_nested_models(tmp_path):
    path = tmp_path / "models.ckpt"
    torch.save({"cell": {"state_dict": {"w": torch.zeros(1)}}, "gene": {"state_dict": STATE}}, path)
    found = read_checkpoint(path, entry=("gene",))
    assert same(found.tensors)
    assert found.container == "torch in 'gene' in 'state_dict'"
    with pytest.raises(UnreadableFileError, match=r"no part 'rde'.*cell, gene"):
        read_checkpoint(path, entry=("rde",))


def test_safetensors_and_shards(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    assert same(read_checkpoint(tmp_path / "model.safetensors").tensors)
    names = list(STATE)
    save_file({n: STATE[n] for n in names[:2]}, tmp_path / "a.safetensors")
    torch.save({n: STATE[n] for n in names[2:]}, tmp_path / "b.bin")
    places = {n: "a.safetensors" if i < 2 else "b.bin" for i, n in enumerate(names)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert same(read_checkpoint(index).tensors)
    index.write_text(json.dumps({"weight_map": places | {"x": "a.safetensors"}}))
    with pytest.raises(UnreadableFileError, match="do not agree on x"):
        read_checkpoint(index)
    index.write_text(json.dumps({"weight_map": places | {"x": "../a.safetensors"}}))
    with pytest.raises(UnreadableFileError, match="which no model gives"):
        read_checkpoint(index)


SAID = {
    "runs a command": "wants to use",
    "runs eval": "wants to use",
    "runs, in the old format": "wants to use",
    "claims more than it holds": "storage '0' claims",
    "is compressed": "is compressed",
    "steps out of the archive": "which no model gives",
    "names a tensor with ..": "which no model gives",
    "holds NaN": "holds NaN or infinity",
    "holds no tensors": "no tensors in it",
    "is a list": "holds a list",
    "has a vast view": "larger than what it holds",
    "has other shapes": "Other shapes: 0.weight (3, 5) for (4, 6)",
    "claims a huge header": "its header claims",
    "claims a header past its end": "its header claims",
}
PICKLES = list(hostile_pickles(STATE, "canary"))
SAFE = list(hostile_safetensors(STATE))
TABLES = list(hostile_tables({"a": 1}, "canary"))


@pytest.mark.parametrize("case", [("pt", n) for n in PICKLES] + [("safetensors", n) for n in SAFE])
def test_hostile_files_run_nothing(case, tmp_path):
    kind, name = case
    canary = tmp_path / "canary"
    files = hostile_pickles(STATE, canary) if kind == "pt" else hostile_safetensors(STATE)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(files[name])
    with pytest.raises(CellweaveError) as caught:
        fill(network(), read_checkpoint(path).tensors, source=path)
    text = str(caught.value)
    assert str(path) in text
    assert SAID.get(name, "") in text
    assert "weights_only" not in text
    assert not canary.exists()


@pytest.mark.parametrize("name", TABLES)
def test_hostile_tables_run_nothing(name, tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "x.pkl"
    path.write_bytes(hostile_tables({"a": 1, "b": 2}, canary)[name])
    from cellweave_nn.checkpoints import read_table

    with pytest.raises(UnreadableFileError):
        read_table(path, of=(int, float), what="table")
    assert not canary.exists()


def test_tables_with_numbers_of_numpy(tmp_path):
    table = {"<pad>": 0, "ENSG1": np.int16(7), "x": np.float64(0.5)}
    for protocol in (2, 4, 5):
        path = tmp_path / "table.pkl"
        path.write_bytes(pickle.dumps(table, protocol=protocol))
        found = read_pickled_table(path)
        assert found == {"<pad>": 0, "ENSG1": 7, "x": 0.5}
        assert type(found["ENSG1"]) is int
    path.write_bytes(pickle.dumps({"x": np.zeros(3)}))
    with pytest.raises(UnreadableFileError, match=r"wants to use numpy"):
        read_pickled_table(path)


def test_too_large_is_refused(tmp_path):
    torch.save(STATE, tmp_path / "x.pt")
    with pytest.raises(UnreadableFileError, match="expected at most 10"):
        read_checkpoint(tmp_path / "x.pt", limits=Limits(file_bytes=10))


def test_reading_leaves_torch_as_it_was(tmp_path):
    torch.save(CONTAINERS["namespace"], tmp_path / "x.pt")
    before = torch.serialization.get_safe_globals()
    read_checkpoint(tmp_path / "x.pt")
    assert torch.serialization.get_safe_globals() == before


def test_fill_reports_every_key(tmp_path):
    module = network()
    tensors = {f"old.{k}": v + 1 for k, v in STATE.items() if k != "1.bias"}
    tensors["position_ids"] = torch.arange(3)
    report = fill(
        module,
        tensors,
        source=tmp_path,
        rename=lambda n: n.removeprefix("old."),
        ignored={"position_ids": "a constant"},
        new=(r"1\.bias",),
    )
    assert str(report) == "3 used, 1 ignored, 1 new"
    assert report.ignored == {"position_ids": "a constant"}
    assert torch.equal(module[0].weight, STATE["0.weight"] + 1)
    assert torch.equal(module[1].bias, STATE["1.bias"])


def test_fill_tells_all_at_once(tmp_path):
    wrong = {"0.weight": torch.zeros(1), "z": torch.zeros(1), "0.bias": STATE["0.bias"]}
    module = network()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(StateMismatchError) as caught:
        fill(module, wrong, source=tmp_path)
    text = str(caught.value)
    for part in ("Not used: z.", "Missing: 1.bias, 1.weight.", "0.weight (1,) for (4, 6)"):
        assert part in text
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    with pytest.raises(StateMismatchError, match="Missing: q"):
        take(STATE, ["q"], source=tmp_path)


def test_lora(tmp_path):
    generator = torch.Generator().manual_seed(1)
    down, up = (torch.randn(s, generator=generator) for s in ((2, 6), (4, 2)))
    stem = "base_model.model."
    adapter = {
        f"{stem}0.lora_A.weight": down,
        f"{stem}0.lora_B.weight": up,
        f"{stem}classifier.bias": torch.ones(3),
    }
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(adapter, tmp_path / "adapter_model.safetensors")
    merged = merge_lora(STATE, tmp_path)
    x = torch.randn(5, 6, generator=generator)
    expected = x @ STATE["0.weight"].T + 4 * (x @ down.T) @ up.T
    assert torch.allclose(x @ merged["0.weight"].T, expected, atol=1e-5)
    assert torch.equal(merged["classifier.bias"], torch.ones(3))
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(StateMismatchError, match="use_dora"):
        merge_lora(STATE, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(StateMismatchError, match="does not fit a base"):
        merge_lora({"0.weight": torch.zeros(4, 7)}, tmp_path)
