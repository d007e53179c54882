"""Malformed files: one error class, three parts, no hang, nothing executed."""

import importlib.util
import os
import subprocess
import time
import warnings
from pathlib import Path

import h5py
import pytest

from cellweave.data import read, untrusted
from cellweave.errors import UnreadableFileError

_spec = importlib.util.spec_from_file_location(
    "malformed", Path(__file__).with_name("malformed.py")
)
malformed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(malformed)

CASES = dict(malformed.all_cases())


def test_there_are_many():
    assert len(CASES) >= 90


@pytest.mark.parametrize("name", CASES)
def test_malformed_input_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLWEAVE_CANARY", str(tmp_path / "canary"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = CASES[name](tmp_path)
        before = sorted(p.name for p in tmp_path.rglob("*"))
        start = time.perf_counter()
        with pytest.raises(UnreadableFileError) as caught:
            read(path, guess=lambda _: "rna")
    assert time.perf_counter() - start < 30
    assert len(str(caught.value)) < 900
    assert path.name in str(caught.value)
    assert not (tmp_path / "canary").exists()
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.name != "posix", reason="process groups are of POSIX")
def test_ctrl_c_reaches_us_and_not_the_child_that_reads(tmp_path, monkeypatch):
    groups, start = [], subprocess.Popen

    def started(*args, **options):
        child = start(*args, **options)
        groups.append(os.getpgid(child.pid))
        return child

    monkeypatch.setattr(untrusted.subprocess, "Popen", started)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1, 2]
    untrusted.check_before_reading(tmp_path / "a.h5")
    assert len(groups) == 1
    assert groups[0] != os.getpgrp()
