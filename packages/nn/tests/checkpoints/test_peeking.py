"""Names inside files of weights are seen without running or reading anything."""

import pytest
import torch
from safetensors.torch import save_file

from cellweave.errors import ConfigError, UnreadableFileError
from cellweave_nn.checkpoints import (
    files_with,
    head_count,
    one_file_with,
    peek_names,
    read_checkpoint,
    renamed_by,
)
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


def test_files_are_found_by_what_is_in_them(tmp_path):
    told = {"patterns": ("best.pt", "*.pt"), "signs": ("a.weight", "b.bias")}
    for name, keys in (("x.pt", ("inner.a.weight", "b.bias")), ("y.pt", ("a.weight", "c.bias"))):
        torch.save(dict.fromkeys(keys, torch.zeros(1)), tmp_path / name)
    assert files_with(tmp_path, **told) == [tmp_path / "x.pt"]
    assert files_with(tmp_path / "y.pt", **told) == []
    assert one_file_with(tmp_path, **told, what="weights") == tmp_path / "x.pt"
    (tmp_path / "z.pt").write_bytes((tmp_path / "x.pt").read_bytes())
    with pytest.raises(ConfigError, match=r"holds 'x\.pt' and 'z\.pt'"):
        one_file_with(tmp_path, **told, what="weights")
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(UnreadableFileError, match=r"weights is missing: no file 'best\.pt'"):
        one_file_with(tmp_path, **told, what="weights")
    (tmp_path / "best.pt").write_bytes(b"damaged")
    (tmp_path / "other.pt").write_bytes(b"damaged")
    assert files_with(tmp_path, **told) == [tmp_path / "best.pt"]
    assert one_file_with(tmp_path, **told, what="weights") == tmp_path / "best.pt"


def test_heads_are_a_number():
    assert head_count(None, usual=4) == 4
    assert head_count("8", usual=4) == 8
    for wrong in ("0", "many", "-2", "99999"):
        with pytest.raises(ConfigError, match=r"such as 4\."):
            head_count(wrong, usual=4)
