"""The commands, and that naming them costs no torch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import anndata
import numpy as np
import pytest
import yaml

from cellweave.cli.app import main
from cellweave_nn.training import pretrain as pretraining
from cellweave_nn.training.estimate import TimedStep, estimate, heaviest_slot, run_seconds
from cellweave_nn.training.loop import Trainer
from cellweave_nn.training.runs import compare_runs, list_runs
from cellweave_nn.training.settings import TrainingSettings
from cellweave_nn.training.source import DataOrder, TokenSource
from cellweave_nn.training.work import Work


@pytest.fixture
def config(trained_run, tmp_path):
    path = tmp_path / "config.yaml"
    values = {
        "data": str(trained_run / "cells.h5ad"),
        "output": str(tmp_path / "run"),
        "encoder": {
            "name": "nn.transformer",
            "parameters": {"width": 16, "depth": 1, "heads": 2, "values": "continuous"},
        },
        "objectives": {"gep": {"name": "nn.masked_value"}},
        "training": {"steps": 12, "cells_per_slot": 20, "device": "cpu"},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def test_pretrain_then_runs(config, tmp_path, trained_run, capsys):
    assert main(["pretrain", str(config), "--quiet"]) == 0
    assert "run/model" in capsys.readouterr().out
    assert main(["runs", "list", str(tmp_path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["step"], found["steps"], found["finished"]) == (12, 12, True)
    pair = [str(tmp_path / "run"), str(trained_run / "run")]
    assert main(["runs", "compare", *pair]) == 0
    shown = capsys.readouterr().out
    assert "training.steps" in shown
    table = compare_runs(pair)
    assert table["training.steps"] == [12, 120]
    assert "training.clip" not in table
    assert len(list_runs(tmp_path)) == 1


@pytest.fixture
def signalled(monkeypatch):
    """Send signals to this very process once, when step ``at`` is made; −1: while data are read."""
    planned = {}
    step, assemble = Trainer._step, pretraining.assemble

    def reached(place):
        for number in planned.pop(place, ()):
            signal.raise_signal(
                number
            )  # handled before the next line, which os.kill does not promise

    def signalled_step(trainer, index, *rest):
        reached(index)
        return step(trainer, index, *rest)

    def signalled_assemble(*args, **options):
        reached(-1)
        return assemble(*args, **options)

    monkeypatch.setattr(Trainer, "_step", signalled_step)
    monkeypatch.setattr(pretraining, "assemble", signalled_assemble)
    # Workers of pytest-xdist ignore Ctrl-C, which a command line does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda at, *numbers: planned.update({at: numbers})
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("at", "numbers", "ending"),
    [
        (4, [signal.SIGINT], "Stopped after step 5: last checkpoint {places}/step-000000005"),
        (4, [signal.SIGTERM], "Stopped after step 5: last checkpoint {places}/step-000000005"),
        (-1, [signal.SIGINT], "Stopped before the first step: there is no checkpoint yet"),
        (4, [signal.SIGINT] * 2, "Stopped at once: last checkpoint {places}/step-000000003"),
        (1, [signal.SIGINT] * 2, "Stopped at once: there is no checkpoint yet"),
    ],
)  # fmt: skip
def test_a_stop_ends_with_how_to_go_on(config, signalled, capsys, at, numbers, ending):
    values = yaml.safe_load(config.read_text())
    values["training"] |= {"steps": 6, "save_every": 3}
    config.write_text(yaml.safe_dump(values))
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    signalled(at, *numbers)
    assert main(["pretrain", str(config), "--quiet"]) == 130
    told, end = capsys.readouterr().err.splitlines()
    assert told == "note: stopping at the end of this step; Ctrl-C again stops at once"
    place = ending.format(places=f"{values['output']}/checkpoints")
    assert end == f"{place}. To go on: cellweave pretrain {config}"
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert main(["pretrain", str(config), "--quiet"]) == 0


def test_a_stopped_fine_tuning_and_its_json(trained_run, tmp_path, signalled, capsys):
    path = tmp_path / "to tune.yaml"
    values = {
        "model": str(trained_run / "run" / "model"),
        "data": str(trained_run / "cells.h5ad"),
        "label": "cell_type",
        "output": str(tmp_path / "tuned"),
        "training": {"steps": 9, "device": "cpu"},
    }
    path.write_text(yaml.safe_dump(values))
    signalled(1, signal.SIGTERM)
    assert main(["finetune", str(path), "--quiet", "--json"]) == 130
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "Interrupted"
    assert error["message"].startswith("Stopped after step 2: last checkpoint ")
    assert error["message"].endswith(f"To go on: cellweave finetune '{path}'")
    assert not (tmp_path / "tuned" / "model").exists()


def test_estimate_is_near_what_is_paid(config, capsys):
    assert main(["estimate", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "min" in shown
    assert "GiB" in shown
    found = estimate(config)
    assert found.parameters > 0
    assert found.seconds == pytest.approx(12 * found.seconds_per_step)
    assert main(["pretrain", str(config), "--quiet"]) == 0
    (place,) = (config.parent / "run" / "checkpoints").iterdir()
    paid = sum((place / f"{name}.safetensors").stat().st_size for name in ("model", "optimizer"))
    assert found.checkpoint_bytes == pytest.approx(paid, rel=0.25)


def test_memory_is_that_of_the_slot_with_most_tokens(config, monkeypatch):
    lengths = np.full(100, 10)
    lengths[[17, 60]] = [900, 2000]
    settings = TrainingSettings(cells_per_slot=10, steps=50)
    heavy = heaviest_slot(lengths, np.arange(100), settings, seed=0)
    assert len(heavy) == 10
    assert 60 in heavy
    assert 60 not in heaviest_slot(lengths, np.arange(50), settings, seed=0)
    few = heaviest_slot(
        lengths, np.arange(100), TrainingSettings(cells_per_slot=1, steps=1), seed=0
    )
    assert few == DataOrder(n_cells=100, size=1, seed=0).cells(0)  # the run sees no other cell
    made, batch = [], TokenSource.batch
    monkeypatch.setattr(
        TokenSource, "batch", lambda s, cells: made.append(s.names(cells)) or batch(s, cells)
    )
    estimate(config)
    assert sorted(made[-1]) == sorted(
        made[-2]
    )  # the last two steps are of one slot, moments and all


_PEAK = """
import resource, sys
from cellweave.cli.app import main
assert main(["pretrain", sys.argv[1], "--quiet"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="the peak of a process is in kilobytes on Linux"
)
def test_memory_is_what_a_run_takes(config):
    values = yaml.safe_load(config.read_text())
    values["encoder"]["parameters"] |= {"width": 128, "hidden": 1024}
    values["training"] |= {"cells_per_slot": 30, "validation_fraction": 0.2, "ema": 0.9}
    values["report"] = False
    config.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "cellweave", "estimate", str(config), "--json"]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    command = [sys.executable, "-c", _PEAK, str(config)]
    paid = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert said["peak_bytes"] == pytest.approx(int(paid.split()[-1]), rel=0.2)


def test_estimate_carries_the_price_of_a_few_steps_to_the_run():
    work = Work(linear=6.0, squared=4.0, tokens=6, pairs=4)  # a token costs 1, a pair costs 1
    timed = [
        TimedStep(seconds=(20 + 200) / 100, tokens=20, lengths=[10, 10]),
        TimedStep(seconds=(10 + 50) / 100, tokens=10, lengths=[5, 5]),
        TimedStep(seconds=40.0, tokens=10, lengths=[5, 5]),  # something else held the machine
    ]
    lengths = [10] * 50 + [20] * 50
    a_cell = (50 * (10 + 100) + 50 * (20 + 400)) / 100 / 100

    def seconds(**settings):
        return run_seconds(timed, work, lengths, TrainingSettings(cells_per_slot=2, **settings))

    assert seconds(steps=7) == pytest.approx(7 * 2 * a_cell)
    assert seconds(steps=7, slots_per_step=3) == pytest.approx(3 * seconds(steps=7))
    validated = seconds(steps=7, validation_fraction=0.25, validate_every=3)
    assert validated - seconds(steps=7) == pytest.approx(3 * 25 * a_cell / 3)


def test_finetune_and_wrong_configurations(trained_run, tmp_path, capsys):
    path = tmp_path / "tune.yaml"
    values = {
        "model": str(trained_run / "run" / "model"),
        "data": str(trained_run / "cells.h5ad"),
        "label": "cell_type",
        "output": str(tmp_path / "tuned"),
        "mode": "probe",
        "training": {"steps": 60, "learning_rate": 0.05, "device": "cpu"},
    }
    path.write_text(yaml.safe_dump(values))
    assert main(["finetune", str(path), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.8
    path.write_text(yaml.safe_dump(values | {"mode": "fully"}))
    assert main(["finetune", str(path)]) == 2
    assert "'mode' is 'fully'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mode": "last", "last": 9}, "last is 9, but the encoder has 2 blocks."),
        ({"data": "nothere.h5ad"}, "There is nothing at 'nothere.h5ad'. Check the path."),
        ({"label": "depth"}, "obs['depth'] holds numbers. Expected words"),
        ({"label": "one"}, "obs['one'] holds 1 label. Expected words"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_words(trained_run, tmp_path, capsys, changes, text):
    adata = anndata.read_h5ad(trained_run / "cells.h5ad")
    adata.obs["depth"], adata.obs["one"] = np.linspace(0, 1, adata.n_obs), "same"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    values = {
        "model": str(trained_run / "run" / "model"),
        "data": str(tmp_path / "cells.h5ad"),
        "label": "cell_type",
        "output": str(tmp_path / "tuned"),
    }
    path = tmp_path / "tune.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    assert main(["finetune", str(path)]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "tuned").exists()


def test_a_list_of_no_runs_says_so(tmp_path, capsys):
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert f"there is no run below {tmp_path}" in capsys.readouterr().err
    assert main(["runs", "list", str(tmp_path / "nowhere")]) == 2
    assert "nowhere' is not a folder" in capsys.readouterr().err


def test_naming_commands_and_parts_imports_no_torch():
    code = (
        "import sys, cellweave_nn, cellweave_nn._commands as c, cellweave_nn._plugin as p;"
        "names = [s.name for f in (p.cellweave_encoders, p.cellweave_objectives) for s in f()];"
        "assert len(names) == 26, len(names); assert 'pretrain' in c.COMMANDS;"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_device_that_torch_does_not_know_is_named(config, capsys):
    values = yaml.safe_load(config.read_text())
    values["training"]["device"] = "gpu0"
    config.write_text(yaml.safe_dump(values))
    assert main(["pretrain", str(config)]) == 2
    assert "device is 'gpu0'" in capsys.readouterr().err
