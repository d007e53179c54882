"""What a run tells while it goes: pace, MFU counted by hand, sinks, its report."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import numpy as np
import pytest
import torch

from cellweave.errors import ConfigError, MissingDependencyError
from cellweave.storage import verify
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.statespace import StateSpaceEncoder
from cellweave_nn.encoders.transformer import TransformerEncoder
from cellweave_nn.objectives.composed import Composed, WeightedObjective
from cellweave_nn.objectives.masked_value import MaskedValue
from cellweave_nn.training.model import PretrainingModel
from cellweave_nn.training.pace import Pace
from cellweave_nn.training.pretrain import pretrain
from cellweave_nn.training.report import run_page
from cellweave_nn.training.run_folder import RunFolder, read_metrics
from cellweave_nn.training.settings import PretrainConfig
from cellweave_nn.training.work import counted_work, gemm_rate


def config(cells, output, **changes):
    values = {
        "data": str(cells),
        "output": str(output),
        "encoder": {
            "name": "nn.transformer",
            "parameters": {"width": 16, "depth": 1, "heads": 2, "values": "continuous"},
        },
        "objectives": {"gep": {"name": "nn.masked_value"}},
        "training": {"steps": 6, "cells_per_slot": 10, "device": "cpu", "save_every": 2},
        "report": False,
    }
    return PretrainConfig.model_validate(values | changes)


@pytest.fixture
def cells(trained_run):
    return trained_run / "cells.h5ad"


def uneven_batch():
    lengths = [5, 9, 3]
    return TokenBatch(
        offsets=torch.tensor([0, 5, 14, 17]), ids=torch.arange(17) % 8 + 3,
        values=torch.ones(17), special={"pad": 0, "mask": 1, "cls": 2}, n_ids=12,
    ), lengths  # fmt: skip


def test_needed_operations_by_hand():
    """6 N a token in the blocks, 12 n L² d a cell, the heads at hidden places only."""
    batch, lengths = uneven_batch()
    width, depth, hidden = 8, 3, 20
    encoder = TransformerEncoder(
        n_ids=12, width=width, depth=depth, heads=2, hidden=hidden, values="continuous"
    )
    parts = Composed(parts={"gep": WeightedObjective(objective=MaskedValue())})
    model = PretrainingModel(encoder, parts)
    made = parts.corrupt(batch, torch.Generator().manual_seed(0))
    with counted_work(model, lengths) as work:
        model(made)
    tokens, pairs = sum(lengths), sum(n * n for n in lengths)
    blocks = 6 * depth * (4 * width**2 + 2 * width * hidden) * tokens
    values = 6 * (width + width**2) * tokens
    n_hidden = int(made.targets["value_mask"].sum())
    head = 6 * (2 * width**2 + width) * n_hidden
    assert work.squared == 12 * depth * pairs * width
    assert work.linear == blocks + values + head
    assert work.of([10]) == pytest.approx(
        work.linear * 10 / tokens + 12 * depth * 100 * width, rel=1e-12
    )
    model.encoder.requires_grad_(requires_grad=False)
    with counted_work(model, lengths) as frozen:
        model(made)
    assert frozen.linear == blocks / 3 + values / 3 + 6 * (2 * width**2 + width) * n_hidden
    assert frozen.squared == work.squared / 3


def test_a_state_space_needs_work_in_proportion_to_length():
    batch, lengths = uneven_batch()
    encoder = StateSpaceEncoder(n_ids=12, width=8, depth=1, state=4, head_width=4, chunk=4)
    with counted_work(encoder, lengths) as work:
        encoder(batch)
    assert work.squared == 0
    assert work.linear > 0


def test_pace_forecasts_from_all_but_the_first_step():
    pace = Pace(cells=10)
    first = pace.step(9.0, tokens=100, left=3)
    assert first["eta_seconds"] == 27.0
    assert (first["cells_per_second"], first["tokens_per_second"]) == (10 / 9, 100 / 9)
    pace.step(1.0, tokens=100, left=2)
    assert pace.step(3.0, tokens=100, left=1)["eta_seconds"] == 2.0
    assert gemm_rate(torch.device("cpu")) > 1e8


def test_each_line_says_how_fast_and_how_long(cells, tmp_path):
    told = []
    pretrain(config(cells, tmp_path / "run"), progress=told.append)
    lines = read_metrics(RunFolder(path=tmp_path / "run").metrics)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["cells_per_second"] == pytest.approx(10 / line["seconds"])
        assert 0 < line["mfu"] < 1.5
    assert lines[-1]["eta_seconds"] == 0
    assert lines[-1]["cells"] == 60
    assert next(iter(told[0].metrics)) == "loss"
    assert {"mfu", "eta_seconds", "tokens_per_second"} <= set(told[0].metrics)


def test_the_report_of_a_run(cells, tmp_path):
    run = RunFolder(path=tmp_path / "run<b>")
    settings = config(
        cells, run.path, report=True,
        training={"steps": 6, "cells_per_slot": 10, "device": "cpu", "validation_fraction": 0.2},
    )  # fmt: skip
    stops = iter([False, False, False, True])
    assert not pretrain(settings, stop=lambda: next(stops)).finished
    assert "Stopped; the same command goes on from step 3: 3 of 6" in run_page(run).headline
    pretrain(settings)
    page = run_page(run)
    assert page.headline.startswith("Finished: 6 of 6 steps. The loss went from")
    drawn = [figure.name for figure in page.figures()]
    assert drawn[0] == "loss"
    assert {"masked-value", "learning-rate", "gradient-norm", "mfu"} <= set(drawn)
    assert {"Loss", "Validation loss", "Cells seen", "MFU"} <= {name for name, _, _ in page.tiles}
    html = run.report.read_text()
    assert "run<b>" not in html
    assert "run&lt;b&gt;" in html
    assert html.count("data:image/svg+xml") == len(drawn)
    assert verify(run.report) == []


class Recorder:
    """Stand in for a client library: note every call on it and on what it returns."""

    def __init__(self, calls, name=""):
        self._calls, self._name = calls, name

    def __getattr__(self, name):
        return Recorder(self._calls, f"{self._name}.{name}".strip("."))

    def __call__(self, *args, **options):
        self._calls.append((self._name, args, options))
        return Recorder(self._calls, self._name)

    def __str__(self):
        return "the-id"


def installed(monkeypatch, name, **attributes):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    for key, value in attributes.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def calls(monkeypatch):
    """Install all three, as recorders."""
    calls = []
    library = Recorder(calls)
    installed(monkeypatch, "tensorboard")
    installed(monkeypatch, "torch.utils.tensorboard", SummaryWriter=library.SummaryWriter)
    installed(monkeypatch, "wandb", init=library.init)
    installed(monkeypatch, "mlflow", MlflowClient=library.MlflowClient)
    return calls


def named(calls, name):
    return [(args, options) for found, args, options in calls if found.endswith(name)]


def test_sinks_are_told_every_step_and_go_on_where_they_were(cells, tmp_path, calls):
    settings = config(cells, tmp_path / "run", sinks=["tensorboard", "wandb", "mlflow"])
    stops = iter([False, False, False, True])
    pretrain(settings, stop=lambda: next(stops))
    scalars = [(a[0], o["global_step"]) for a, o in named(calls, "add_scalar")]
    assert {("loss", 1), ("loss", 3), ("mfu", 2)} <= set(scalars)
    assert [o["step"] for _, o in named(calls, "init.log")] == [1, 2, 3]
    assert {o["step"] for _, o in named(calls, "log_metric")} == {1, 2, 3}
    for end in ("SummaryWriter.close", "init.finish", "set_terminated"):
        assert len(named(calls, end)) == 1
    assert named(calls, "SummaryWriter")[0][1]["purge_step"] is None
    assert named(calls, "init")[0][1]["id"] is None
    calls.clear()
    pretrain(settings)
    assert named(calls, "SummaryWriter")[0][1]["purge_step"] == 4
    assert named(calls, "init")[0][1]["id"] == "the-id"
    assert not named(calls, "create_run")
    assert {a[0] for a, _ in named(calls, "log_metric")} == {"the-id"}
    assert min(o["step"] for _, o in named(calls, "log_metric")) == 4


def test_a_missing_sink_is_told_before_work_starts(cells, tmp_path, monkeypatch):
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    settings = config(cells, tmp_path / "run", sinks=["wandb", "mlflow"])
    with pytest.raises(
        MissingDependencyError,
        match=r"'wandb', 'mlflow'.*pip install 'cellweave-nn\[wandb,mlflow\]'",
    ):
        pretrain(settings)
    assert not (tmp_path / "run").exists()
    path = tmp_path / "config.json"
    path.write_text(settings.model_dump_json().replace('"wandb"', '"wand"'))
    with pytest.raises(ConfigError, match="sinks"):
        pretrain(path)


def test_real_event_files(cells, tmp_path):
    pytest.importorskip(
        "tensorboard", reason="the extra cellweave-nn[tensorboard] is not installed"
    )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pretrain(config(cells, tmp_path / "run", sinks=["tensorboard"]))
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Scalars("loss")
    lines = read_metrics(RunFolder(path=tmp_path / "run").metrics)
    np.testing.assert_allclose([e.value for e in found], [x["loss"] for x in lines], rtol=1e-6)
