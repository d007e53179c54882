"""Manifests find one flipped bit anywhere, their own bytes included."""

import copy
import json
import os
import pickle

import numpy as np
import pytest

from cellweave.errors import IntegrityError
from cellweave.records import Provenance, Tokens, Vocabulary
from cellweave.storage import atomic_folder, inspect, verify, verify_or_raise, write_bytes


def _flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(bytes(data))


def _found(path):
    try:
        return bool(verify(path))
    except IntegrityError:
        return True


def test_every_single_bit_of_a_file_and_its_manifest(tmp_path):
    target = tmp_path / "x"
    write_bytes(target, b"0123456789", kind="t")
    for path in (target, tmp_path / "x.manifest.json"):
        for bit in range(8 * path.stat().st_size):
            _flip(path, bit)
            assert _found(target), (path.name, bit)
            _flip(path, bit)
    assert verify(target) == []


def test_every_single_bit_of_a_folder(tmp_path):
    with atomic_folder(tmp_path / "f", kind="t") as place:
        (place / "sub").mkdir()
        (place / "sub" / "a").write_bytes(b"abc")
        (place / "empty").write_bytes(b"")
    for path in (tmp_path / "f/sub/a", tmp_path / "f/MANIFEST.json"):
        for bit in range(8 * path.stat().st_size):
            _flip(path, bit)
            assert _found(tmp_path / "f"), (path.name, bit)
            _flip(path, bit)
    assert inspect(tmp_path / "f").checked == ("empty", "sub/a")


def test_added_missing_linked_files_are_listed_together(tmp_path):
    folder = tmp_path / "f"
    with atomic_folder(folder, kind="t") as place:
        (place / "a").write_bytes(b"a")
        (place / "b").write_bytes(b"b")
    (folder / "a").unlink()
    (folder / "c").write_bytes(b"c")
    (folder / "d").symlink_to("/etc/passwd")
    os.mkfifo(folder / "e")
    problems = verify(folder)
    assert [p.split(":")[0] for p in problems] == ["d", "e", "a", "c"]
    with pytest.raises(IntegrityError, match="a: missing"):
        verify_or_raise(folder)


def test_a_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p")
    with pytest.raises(IntegrityError, match="not a regular file"):
        verify(tmp_path / "p")


@pytest.mark.parametrize(
    "text", ["", "[", "[" * 100_000, "null", "{}", '{"accepted": [1]}', '{"self": 3, "files": []}']
)
def test_hostile_manifests(tmp_path, text):
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "x.manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match="damaged"):
        verify(tmp_path / "x")


def test_duplicate_keys_in_a_manifest_are_damage(tmp_path):
    write_bytes(tmp_path / "x", b"x", kind="t")
    sidecar = tmp_path / "x.manifest.json"
    values = json.loads(sidecar.read_bytes())
    sidecar.write_text(json.dumps(values))
    with pytest.raises(IntegrityError, match="damaged"):
        verify(tmp_path / "x")


def test_nothing_and_no_manifest_are_told(tmp_path):
    with pytest.raises(IntegrityError, match="nothing at"):
        verify(tmp_path / "none")
    (tmp_path / "plain").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="no manifest"):
        verify(tmp_path / "plain")
    verify_or_raise(tmp_path / "plain")


def _records():
    provenance = Provenance(component="x", version="1", parameters={"a": [1]}, inputs={"i": "s"})
    tokens = Tokens(
        offsets=np.array([0, 1]),
        ids=np.array([3]),
        obs_names=np.array(["c"]),
        context={"batch": np.array([1])},
        provenance=provenance,
    )
    return [provenance, Vocabulary(names=("a", "b"), special={"pad": 0}), tokens]


@pytest.mark.parametrize(
    "copy_of", [copy.deepcopy, copy.copy, lambda r: pickle.loads(pickle.dumps(r))]
)
@pytest.mark.parametrize("record", _records(), ids=lambda r: type(r).__name__)
def test_records_are_copied_and_sent_to_workers(record, copy_of):
    twin = copy_of(record)
    assert type(twin) is type(record)
    if isinstance(record, Tokens):
        assert np.array_equal(twin.ids, record.ids)
        assert dict(twin.context) == dict(record.context)
        assert twin.provenance == record.provenance
        with pytest.raises(TypeError):
            twin.context["batch"] = 0
    else:
        assert twin == record
