"""The command ``cellweave models``: light to import, lists families, checks what was downloaded."""

import json
import subprocess
import sys

import pytest

from cellweave.cli.app import main
from cellweave_nn.checkpoints import commands


def test_importing_it_imports_no_torch():
    code = "import sys, cellweave_nn.checkpoints.commands; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_lists_what_is_installed(capsys):
    assert main(["models", "--json"]) == 0
    assert "nn.model" in json.loads(capsys.readouterr().out)


def test_a_broken_family_is_told(monkeypatch):
    from cellweave.records import ComponentKind, ComponentSpec
    from cellweave.registry import Component

    spec = ComponentSpec(name="broken", target="no_such_module:Model", summary="Broken.")
    component = Component(
        kind=ComponentKind.MODEL, spec=spec, plugin="p", distribution="d", version="1"
    )
    assert "not usable here" in commands._described(component)["verified"]


@pytest.mark.parametrize("what", ["missing", "text"])
def test_what_nobody_recognises_is_refused(what, tmp_path, capsys):
    path = tmp_path / "x.pt"
    if what == "text":
        path.write_text("nothing")
    assert main(["models", "check", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
