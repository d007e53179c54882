"""A run that was killed goes on to the bit; what may not change is named; broken numbers stop."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import torch._inductor.config
from safetensors.torch import load_file

from cellweave.errors import (
    ConfigError,
    DataError,
    NumericalError,
    StateMismatchError,
    UnwritableError,
)
from cellweave.storage import verify
from cellweave_nn.training.loop import Trainer
from cellweave_nn.training.pretrain import assemble, pretrain
from cellweave_nn.training.run_folder import RunFolder, read_metrics
from cellweave_nn.training.schedules import learning_rate
from cellweave_nn.training.settings import PretrainConfig, TrainingSettings
from cellweave_nn.training.source import DataOrder

TRAINING = {
    "steps": 8,
    "cells_per_slot": 6,
    "slots_per_step": 2,
    "learning_rate": 3e-3,
    "warmup": 2,
    "ema": 0.9,
    "save_every": 2,
    "validation_fraction": 0.1,
    "device": "cpu",
}


@pytest.fixture
def cells(tmp_path):
    rng = np.random.default_rng(0)
    kind = np.arange(60) % 2
    rate = np.where((np.arange(30)[None, :] + kind[:, None]) % 2, 3.0, 0.3)
    adata = anndata.AnnData(
        sp.csr_matrix(np.log1p(rng.poisson(rate)).astype(np.float32)),
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical(np.array(["a", "b"])[kind])},
            index=[f"cell{i}" for i in range(60)],
        ),
        var=pd.DataFrame(index=[f"g{i}" for i in range(30)]),
    )
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    return path


def config(cells, output, *, training=None, **changes):
    values = {
        "data": str(cells),
        "output": str(output),
        "encoder": {
            "name": "nn.transformer",
            "parameters": {
                "width": 16, "depth": 1, "heads": 2, "values": "continuous", "dropout": 0.1
            },
        },
        "objectives": {
            "gep": {"name": "nn.masked_value"},
            "mvc": {"name": "nn.cell_conditioned", "weight": 0.5},
        },
        "training": TRAINING | (training or {}),
        "seed": 1,
    }  # fmt: skip
    return PretrainConfig.model_validate(values | changes)


def losses(output):
    return [(line["step"], line["loss"]) for line in read_metrics(RunFolder(path=output).metrics)]


def weights(output):
    return load_file(output / "model" / "model.safetensors")


def same_run(one, other):
    assert losses(one) == losses(other)
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def stop_after(steps):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > steps

    return stop


@pytest.mark.parametrize("workers", [0, 2])
def test_stop_and_resume_is_bit_identical(cells, tmp_path, workers):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    state = torch.random.get_rng_state()
    assert pretrain(config(cells, whole)).finished
    assert torch.equal(torch.random.get_rng_state(), state)
    settings = config(cells, parts, training={"workers": workers})
    for steps in (1, 3):
        assert not pretrain(settings, stop=stop_after(steps)).finished
    assert pretrain(settings).finished
    same_run(whole, parts)
    assert verify(parts / "model") == []
    found = losses(whole)
    assert [step for step, _ in found] == list(range(1, 9))


_SCRIPT = """
import sys
from cellweave_nn.training.pretrain import pretrain
from cellweave_nn.training.signals import stop_on_signals
with stop_on_signals() as stop:
    done = pretrain(sys.argv[1], stop=stop, progress=lambda p: print(p.step, flush=True))
sys.exit(0 if done.finished else 130)
"""


def launched(settings, tmp_path, *prefix, env=None):
    path = tmp_path / f"{settings.output.name}.json"
    path.write_text(settings.model_dump_json())
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(_SCRIPT))
    command = [sys.executable, *prefix, str(script), str(path)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | (env or {})
    )


def test_kill_nine_and_resume_is_bit_identical(cells, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    longer = {"steps": 60, "save_every": 3}
    assert pretrain(config(cells, whole, training=longer)).finished
    settings = config(cells, killed, training=longer)
    process = launched(settings, tmp_path)
    for line in process.stdout:
        if int(line) >= 5:
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait(60) == -signal.SIGKILL
    assert not (killed / "model").exists()
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # a half line, as a kill may leave
    assert pretrain(settings).finished
    same_run(whole, killed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly_at_the_end_of_a_step(cells, tmp_path, number):
    settings = config(cells, tmp_path / "run", training={"steps": 5000, "save_every": 5000})
    process = launched(settings, tmp_path)
    for line in process.stdout:
        if int(line) >= 3:
            process.send_signal(number)
            break
    process.stdout.read()
    assert process.wait(60) == 130
    places = list((tmp_path / "run" / "checkpoints").iterdir())
    assert len(places) == 1
    assert verify(places[0]) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"training": {"learning_rate": 1e-3}}, "training.learning_rate was 0.003 and is 0.001"),
        ({"training": {"steps": 9}}, "training.steps was 8 and is 9"),
        ({"objectives": {"gep": {"name": "nn.masked_value"}}}, "objectives.mvc"),
    ],
)
def test_a_changed_setting_refuses_to_resume_and_is_named(cells, tmp_path, changes, text):
    pretrain(config(cells, tmp_path / "run"), stop=stop_after(1))
    with pytest.raises(StateMismatchError, match=text):
        pretrain(config(cells, tmp_path / "run", **changes))


def test_changed_data_version_and_foreign_folders_are_refused(cells, tmp_path, monkeypatch):
    run = tmp_path / "run"
    pretrain(config(cells, run), stop=stop_after(1))
    import cellweave_nn

    with monkeypatch.context() as patch:
        patch.setattr(cellweave_nn, "__version__", "9.9")
        with pytest.raises(StateMismatchError, match=r"cellweave-nn version was .* and is '9.9'"):
            pretrain(config(cells, run))
    adata = anndata.read_h5ad(cells)
    adata.X[0, 0] = 3.25
    adata.write_h5ad(cells)
    with pytest.raises(StateMismatchError, match="data digest was"):
        pretrain(config(cells, run))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(UnwritableError, match="is not empty and holds no run"):
        pretrain(config(cells, other))
    with RunFolder(path=run).locked(), pytest.raises(UnwritableError, match="Another process"):
        pretrain(config(cells, run))


def test_a_damaged_last_checkpoint_is_passed_over(cells, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    pretrain(config(cells, whole))
    pretrain(config(cells, run), stop=stop_after(5))
    last = sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors"
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    assert pretrain(config(cells, run)).finished
    same_run(whole, run)


def test_nan_stops_within_the_step_and_names_parameter_and_cells(cells, tmp_path):
    settings = config(cells, tmp_path / "run")
    run = RunFolder(path=settings.output)
    parts = assemble(settings)
    run.begin({}, {})
    seen = []

    def poison(report):
        seen.append(report.step)
        if report.step == 4:
            with torch.no_grad():
                parts.model.encoder.stack.blocks[0].feedforward.up.weight[0, 0] = float("nan")

    trainer = Trainer(
        model=parts.model, source=parts.source, settings=settings.training, run=run, progress=poison
    )
    with pytest.raises(NumericalError) as error:
        trainer.train()
    assert "at step 4" in str(error.value)
    assert "'encoder.stack.blocks.0.feedforward.up.weight'" in str(error.value)
    assert "Cells: 'cell" in str(error.value)
    assert seen[-1] == 4
    assert verify(run.checkpoints / "step-000000004") == []


def test_nan_in_the_data_is_refused_before_the_first_step(cells, tmp_path):
    adata = anndata.read_h5ad(cells)
    adata.X.data[3] = np.nan
    adata.write_h5ad(cells)
    with pytest.raises(
        DataError, match="1 values are negative, NaN or infinite, first nan in cell 'cell0'"
    ):
        pretrain(config(cells, tmp_path / "run"))


def test_every_cell_is_seen_once_an_epoch_and_order_has_no_history():
    order = DataOrder(n_cells=10, size=4, seed=3)
    row = np.concatenate([order.cells(k) for k in range(5)])
    assert sorted(row[:10]) == sorted(row[10:]) == list(range(10))
    assert row[:10].tolist() != row[10:].tolist()
    fresh = DataOrder(n_cells=10, size=4, seed=3)
    assert fresh.cells(3).tolist() == order.cells(3).tolist()
    assert DataOrder(n_cells=10, size=4, seed=4).cells(0).tolist() != order.cells(0).tolist()


def test_schedules_at_their_corners():
    base = {"steps": 110, "warmup": 10, "learning_rate": 1.0, "floor": 0.1}
    for name in ("constant", "linear", "cosine", "stable_decay"):
        settings = TrainingSettings(schedule=name, **base)
        assert learning_rate(0, settings) == pytest.approx(0.1)
        assert learning_rate(9, settings) == learning_rate(10, settings) == 1.0
    half = {"constant": 1.0, "linear": 0.55, "cosine": 0.55, "stable_decay": 1.0}
    for name, rate in half.items():
        settings = TrainingSettings(schedule=name, **base)
        assert learning_rate(60, settings) == pytest.approx(rate)
    ended = TrainingSettings(schedule="stable_decay", **base)
    assert learning_rate(100, ended) == pytest.approx(0.55)


def test_wrong_settings_are_told_at_once(cells, tmp_path):
    encoder = {"name": "nn.transformer", "parameters": {"dept": 2}}
    settings = config(cells, tmp_path / "a", encoder=encoder)
    with pytest.raises(ConfigError, match=r"Unknown setting 'dept'. Did you mean 'depth'"):
        pretrain(settings)
    with pytest.raises(ConfigError, match="'fp16' needs a GPU"):
        pretrain(config(cells, tmp_path / "b", training={"precision": "fp16"}))
    path = tmp_path / "c.json"
    values = json.loads(settings.model_dump_json())
    values["training"]["stps"] = 3
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"Unknown key 'training.stps'. Did you mean 'steps'"):
        pretrain(path)
    with pytest.raises(DataError, match="obs has no column 'celltype'"):
        pretrain(config(cells, tmp_path / "d", context=["celltype"]))


@pytest.mark.parametrize("training", [{"precision": "bf16"}, {"clip": 0.0}])
def test_options_train(cells, tmp_path, training):
    assert pretrain(config(cells, tmp_path / "run", training=training | {"steps": 3})).finished


def test_recomputed_activations_change_nothing_and_save_memory(cells, tmp_path):
    kept = {}
    for name, flag in (("plain", False), ("again", True)):
        settings = config(cells, tmp_path / name, training={"activation_checkpointing": flag})
        kept[name] = saved_bytes(settings)
        assert pretrain(settings).finished
    same_run(tmp_path / "plain", tmp_path / "again")
    assert kept["again"] < 0.6 * kept["plain"]


def saved_bytes(settings):
    """Count what the stack keeps for the backward pass of one batch."""
    parts = assemble(settings)
    Trainer(model=parts.model, source=parts.source, settings=settings.training)._prepare_blocks()
    total = []

    def pack(tensor):
        total.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        parts.model.encoder(parts.source.batch(np.arange(20)))
    return sum(total)


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_blocks_give_the_same_losses(cells, tmp_path):
    short = {"steps": 2, "slots_per_step": 1, "validation_fraction": 0.0}
    # The compiled form draws dropout from another stream, so there is none here.
    parameters = {"width": 16, "depth": 1, "heads": 2, "values": "continuous"}
    with torch._inductor.config.patch(compile_threads=1):
        for name, flag in (("plain", False), ("compiled", True)):
            pretrain(
                config(
                    cells, tmp_path / name, training=short | {"compile": flag},
                    encoder={"name": "nn.transformer", "parameters": parameters},
                )
            )  # fmt: skip
    a, b = ([x for _, x in losses(tmp_path / name)] for name in ("plain", "compiled"))
    np.testing.assert_allclose(a, b, rtol=1e-5)


@contextlib.contextmanager
def largest_file(n_bytes):
    """Let no file of this process grow beyond a size: what a full disk is to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(cells, tmp_path):
    whole, full = tmp_path / "whole", tmp_path / "full"
    pretrain(config(cells, whole))
    pretrain(config(cells, full), stop=stop_after(3))
    with largest_file(8000), pytest.raises(UnwritableError, match="the disk is full"):
        pretrain(config(cells, full))
    places = sorted((full / "checkpoints").iterdir())
    assert [p.name for p in places] == ["step-000000002", "step-000000003"]
    assert all(verify(p) == [] for p in places)
    with largest_file(10), pytest.raises(UnwritableError, match=r"metrics\.cut|metrics\.jsonl"):
        pretrain(config(cells, full))
    assert pretrain(config(cells, full)).finished
    same_run(whole, full)


def test_training_learns(cells, tmp_path):
    started = time.perf_counter()
    training = {"steps": 60, "cells_per_slot": 16, "learning_rate": 1e-2, "log_every": 10}
    done = pretrain(config(cells, tmp_path / "run", training=training))
    first = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["loss"]
    assert done.metrics["loss"] < 0.8 * first
    assert time.perf_counter() - started < 60
