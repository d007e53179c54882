"""Names inside files of weights are seen without running or reading anything."""

import torch
from safetensors.torch import save_file

from cellweave_nn.checkpoints import peek_names, read_checkpoint, renamed_by
from cellweave_nn.testing.hostile import hostile_pickles, hostile_safetensors

STATE = {"token_emb.weight": torch.zeros(3, 4), "norm.bias": torch.zeros(4)}


def test_names_in_every_container(tmp_path):
    torch.save(STATE, tmp_path / "a.pth")
    torch.save({"epoch": 1, "model_state_dict": STATE}, tmp_path / "b.pth")
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "c.safetensors")
    for name in ("a.pth", "b.pth", "old.pth", "c.safetensors"):
        assert STATE.keys() <= peek_names(tmp_path / name), name


def test_hostile_files_are_looked_at_and_not_run(tmp_path):
    canary = tmp_path / "canary"
    for name, data in hostile_pickles(STATE, canary).items():
        (tmp_path / "x.pth").write_bytes(data)
        assert isinstance(peek_names(tmp_path / "x.pth"), frozenset), name
    for name, data in hostile_safetensors(STATE).items():
        (tmp_path / "x.safetensors").write_bytes(data)
        assert isinstance(peek_names(tmp_path / "x.safetensors"), frozenset), name
    assert peek_names(tmp_path / "missing.pth") == frozenset()
    assert not canary.exists()


def test_renaming_takes_the_first_pattern():
    renamed = renamed_by([(r"layers\.(\d+)\.fn\.", r"blocks.\1."), (r"layers\.", "rest.")])
    assert renamed("layers.3.fn.w") == "blocks.3.w"
    assert renamed("layers.3.norm") == "rest.3.norm"
    assert renamed("other") == "other"


def test_sets_beside_tensors_are_plain(tmp_path):
    torch.save({"names": {"a", "b"}, "state_dict": STATE}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").tensors.keys() == STATE.keys()
