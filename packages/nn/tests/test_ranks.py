"""Two ranks under torchrun give what one gives, with copies or shards, and go on after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cellweave.errors import StateMismatchError
from cellweave.storage import verify
from cellweave_nn.models.cell_model import load_model
from cellweave_nn.training.pretrain import pretrain
from cellweave_nn.training.run_folder import RunFolder, read_metrics
from cellweave_nn.training.settings import PretrainConfig

THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}


@pytest.fixture(scope="module")
def cells(tmp_path_factory, some_cells):
    path = tmp_path_factory.mktemp("ranks") / "cells.h5ad"
    some_cells(61).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def one(cells):
    """Train on one rank what the others are compared with."""
    output = cells.parent / "one"
    assert pretrain(config(cells, output)).finished
    return output


@pytest.fixture(scope="module")
def sharded(cells):
    """Train the same on two ranks that hold a shard each."""
    output = cells.parent / "fsdp"
    finished(torchrun(config(cells, output, parallel="fsdp")))
    return output


def config(cells, output, **training):
    """Two blocks, two passes, accumulation, averaged weights and a validation of odd size."""
    values = {
        "steps": 6, "cells_per_slot": 5, "slots_per_step": 4, "learning_rate": 3e-3, "warmup": 2,
        "ema": 0.9, "save_every": 2, "validation_fraction": 0.2, "validate_every": 3,
        "device": "cpu",
    }  # fmt: skip
    parameters = {"width": 16, "depth": 2, "heads": 2, "dropout": 0.1}
    return PretrainConfig.model_validate(
        {
            "data": str(cells),
            "output": str(output),
            "encoder": {
                "name": "nn.generative",
                "parameters": {**parameters, "values": "continuous"},
            },
            "objectives": {
                "generative": {"name": "nn.generative_value"},
                "mvc": {"name": "nn.cell_conditioned", "weight": 0.5},
            },
            "training": values | training,
            "report": False,
        }
    )


def torchrun(settings):
    """Start two ranks as a user would."""
    path = settings.output.with_suffix(".json")
    path.write_text(settings.model_dump_json())
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "cellweave", "pretrain", str(path),
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=os.environ | THREADS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process):
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]


def curve(output, name="loss"):
    lines = read_metrics(RunFolder(path=output).metrics)
    return [line[name] for line in lines if name in line]


def assert_same_numbers(one, other):
    for name in ("loss", "validation_loss", "gradient_norm"):
        np.testing.assert_allclose(curve(one, name), curve(other, name), rtol=1e-4)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=5e-5, rtol=1e-3)


def test_two_ranks_with_copies_equal_one(cells, one, tmp_path):
    output = tmp_path / "ddp"
    finished(torchrun(config(cells, output)))
    assert_same_numbers(one, output)
    assert RunFolder(path=output).identity()["world size"] == 2
    with pytest.raises(StateMismatchError, match="world size was 2 and is 1"):
        pretrain(config(cells, output))


def test_two_ranks_with_shards_equal_one(one, sharded, some_cells):
    assert_same_numbers(one, sharded)
    assert load_model(sharded / "model").embed(some_cells(5)).values.shape == (5, 16)
    place = sorted((sharded / "checkpoints").glob("step-*"))[-1]
    assert verify(place) == []
    assert_is_split(place)


def test_a_killed_sharded_run_goes_on_to_the_bit(cells, sharded, tmp_path):
    killed = tmp_path / "killed"
    settings = config(cells, killed, parallel="fsdp")
    process = torchrun(settings)
    kill_a_rank_after(process, killed, step=3)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not (killed / "model").exists()
    finished(torchrun(settings))
    assert curve(sharded) == curve(killed)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (sharded, killed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def kill_a_rank_after(process, output, *, step):
    until = time.monotonic() + 120
    while len(curve(output)) < step:
        assert time.monotonic() < until
        time.sleep(0.01)
    ranks = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    os.kill(int(ranks.stdout.split()[-1]), signal.SIGKILL)


def assert_is_split(place):
    """Every matrix lies half in one file and half in the other; nothing can run code."""
    assert {p.suffix for p in place.iterdir()} == {".safetensors", ".json"}
    sizes = {}
    for path in place.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                sizes.setdefault(name, []).append(file.get_slice(name).get_shape()[0])
    assert sizes["model.encoder.stack.blocks.0.attention.qkv.weight"] == [24, 24]
    assert sizes["optimizer.encoder.stack.blocks.0.attention.qkv.weight|exp_avg"] == [24, 24]
    assert sizes["ema.encoder.stack.blocks.0.attention.qkv.weight"] == [24, 24]
