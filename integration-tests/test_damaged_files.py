"""Files of every modality, empty, cut, garbled or foreign: exit code 2 and a few clear lines."""

from __future__ import annotations

import gzip
import random

import h5py
import numpy as np
import pytest

from cellweave.cli import main


def write_fragments(path):
    rows = (f"chr{1 + i % 2}\t{10 * i}\t{10 * i + 200}\tCELL{i % 3}-1\t1\n" for i in range(4000))
    path.write_bytes(gzip.compress("".join(rows).encode()))


def write_loom(path):
    with h5py.File(path, "w") as file:
        file["matrix"] = np.random.default_rng(0).poisson(1, (30, 40)).astype("f4")
        file["row_attrs/Gene"] = np.array([f"G{i}" for i in range(30)], dtype="S")
        file["col_attrs/CellID"] = np.array([f"c{i}" for i in range(40)], dtype="S")


def write_antibodies(path):
    head = ",CD3,CD4,CD8a,CD19,anti-CD45RA,PD-1,IgG1\n"
    path.write_text(head + "".join(f"c{i},{i},{i % 3},2,3,4,5,6\n" for i in range(50)))


def write_ions(path):
    head = "," + ",".join(f"{100 + 3.1234 * i:.4f}" for i in range(20)) + "\n"
    rows = (f"c{i}," + ",".join(str(i * j) for j in range(20)) + "\n" for i in range(30))
    path.write_text(head + "".join(rows))


FORMATS = {
    "fragments.tsv.gz": write_fragments,
    "cells.loom": write_loom,
    "antibodies.csv": write_antibodies,
    "ions.csv": write_ions,
}
DAMAGES = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2 - 3],
    "zeros": lambda data: bytes(len(data)),
    "garbage": lambda data: random.Random(0).randbytes(3000),
    "text": lambda data: b"hello, world\nthis is no data\n",
    "page": lambda data: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FORMATS)
def test_damage_ends_in_two_and_clear_words(tmp_path, capsys, name, damage):
    path, out = tmp_path / name, tmp_path / "out.h5mu"
    FORMATS[name](path)
    assert main(["read", str(path), "-o", str(out), "--json"]) == 0
    out.unlink()
    capsys.readouterr()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert main(["read", str(path), "-o", str(out)]) == 2
    told = capsys.readouterr().err
    assert name in told
    assert "Traceback" not in told
    assert "bug in cellweave" not in told
    assert told.count("\n") <= 3
    assert not out.exists()
