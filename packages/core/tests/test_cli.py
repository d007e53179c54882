"""The command line: exit codes, JSON, words instead of tracebacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cellweave.cli import main


@pytest.fixture(autouse=True)
def _only_core(monkeypatch):
    monkeypatch.setenv("CELLWEAVE_ONLY_PLUGINS", "core")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "demo.h5mu"
    assert main(["simulate", "-o", str(path), "--cells", "40", "--modalities", "rna,prot"]) == 0
    return path


def test_simulate_validate_verify_go_together(made, capsys):
    assert main(["verify", str(made), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"] is True
    assert main(["validate", str(made), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_verify_finds_a_flipped_bit(made, tmp_path, capsys):
    copy = tmp_path / made.name
    data = bytearray(made.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    manifest = made.with_name(made.name + ".manifest.json")
    (tmp_path / manifest.name).write_bytes(manifest.read_bytes())
    assert main(["verify", str(copy)]) == 2
    assert "written as" in capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    words = capsys.readouterr().err
    assert "Traceback" not in words
    return words


def test_show_tells_settings_and_refuses_unknown_names(capsys):
    assert main(["plugins", "show", "core.foscttm"]) == 0
    words = capsys.readouterr().out
    assert "max_queries: int = 20000\n      With more pairs" in words
    assert main(["plugins", "show", "foscttm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["settings"][0]["name"] == "max_queries"
    assert "Did you mean 'core.foscttm'" in refused(capsys, "plugins", "show", "core.fosctm")


def test_bad_input_is_told_with_exit_code_2(made, tmp_path, capsys):
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    assert "broken.h5ad" in refused(capsys, "validate", str(broken))
    assert "gone.h5ad" in refused(capsys, "validate", str(tmp_path / "gone.h5ad"))
    assert "Unknown integrator 'gluee'" in refused(
        capsys, "integrate", "gluee", str(made), "-o", str(tmp_path / "o.h5mu")
    )
    assert "--fix writes a new file" in refused(capsys, "validate", str(made), "--fix")
    assert not (tmp_path / "o.h5mu").exists()


def test_usage_errors_have_exit_code_2(capsys):
    assert main(["integrate"]) == 2
    assert main(["no-such-command"]) == 2
    assert main(["validate", "--no-such-option"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_errors_are_json_too(tmp_path, capsys):
    assert main(["validate", str(tmp_path / "gone.h5ad"), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert told["kind"] == "UnreadableFileError"
    assert "gone.h5ad" in told["message"]


def test_our_own_bug_is_exit_code_1_and_debug_shows_the_trace(monkeypatch, capsys):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("cellweave.storage.verify", broken)
    assert main(["verify", "x"]) == 1
    assert "Run again with --debug" in capsys.readouterr().err
    assert main(["verify", "x", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


COMMANDS = [
    "",
    "plugins",
    "read",
    "validate",
    "verify",
    "simulate",
    "prepare",
    "links",
    "tokenize",
    "integrate",
    "evaluate",
    "run",
    "schema",
    "compare",
    "demo",
    "embed",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert "Example:" in capsys.readouterr().out


def test_a_name_in_front_of_a_path_names_the_modality(made, tmp_path, capsys):
    from mudata import read_h5mu

    alone = tmp_path / "cells.h5ad"
    read_h5mu(made)["prot"].write_h5ad(alone)
    out = tmp_path / "out.h5mu"
    assert main(["read", f"prot={alone}", "-o", str(out), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["modalities"]) == ["prot"]


def test_ctrl_c_ends_clean(tmp_path):
    out = tmp_path / "big.h5mu"
    command = [sys.executable, "-m", "cellweave", "simulate", "-o", str(out), "--cells", "200000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
        # A shell makes its background jobs ignore the signal, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Stopped" in words
    assert "Traceback" not in words
    assert list(tmp_path.iterdir()) == []


def test_schema_is_json(capsys):
    assert main(["schema"]) == 0
    assert "integrator" in json.loads(capsys.readouterr().out)["properties"]
