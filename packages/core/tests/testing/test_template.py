"""The plugin template renders what it says, and refuses what it cannot."""

import ast
import tomllib

import pytest
import yaml

from cellweave.errors import ConfigError
from cellweave.plugins import PluginManager
from cellweave.records import ComponentKind
from cellweave.testing.template import KINDS, render


@pytest.mark.parametrize("kind", KINDS)
def test_rendered_files_are_valid(tmp_path, kind):
    files = render(tmp_path / "plugin", name="my_method", kind=kind, author='A "B" C')
    names = {str(f.relative_to(tmp_path / "plugin")) for f in files}
    assert f"src/cellweave_my_method/{kind}.py" in names
    assert {"pyproject.toml", "README.md", ".github/workflows/test.yml"} <= names
    assert not any("{" in name or name.endswith(".jinja") for name in names)
    assert sum(n.endswith(("integrator.py", "tokenizer.py")) for n in names) == 1
    for file in files:
        if file.suffix == ".py":
            ast.parse(file.read_text())
    project = tomllib.loads((tmp_path / "plugin" / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["cellweave.plugins"] == {
        "my_method": "cellweave_my_method._plugin"
    }
    workflow = yaml.safe_load((tmp_path / "plugin/.github/workflows/test.yml").read_text())
    assert "${{ matrix.python }}" in str(workflow)


@pytest.mark.parametrize("kind", KINDS)
def test_rendered_plugin_is_loaded(tmp_path, kind, monkeypatch):
    render(tmp_path / "plugin", name=f"fresh_{kind}", kind=kind)
    monkeypatch.syspath_prepend(tmp_path / "plugin" / "src")
    module = __import__(f"cellweave_fresh_{kind}._plugin", fromlist=["_plugin"])
    manager = PluginManager.of(**{f"fresh_{kind}": module})
    assert manager.problems() == []
    created = manager.registry(ComponentKind(kind)).create(f"fresh_{kind}", seed=3)
    assert created.seed == 3


@pytest.mark.parametrize("name", ["Big", "a-b", "1a", "", "a b", "../x", "a__b"])
def test_wrong_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="Name"):
        render(tmp_path / "plugin", name=name)
    assert not (tmp_path / "plugin").exists()


def test_unknown_kind_and_full_folder_are_told_together(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError) as told:
        render(tmp_path, name="x", kind="tokeniser")
    assert "Did you mean 'tokenizer'" in str(told.value)
    assert "not an empty folder" in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_nothing_is_left_beside(tmp_path):
    render(tmp_path / "plugin", name="x")
    assert [p.name for p in tmp_path.iterdir()] == ["plugin"]
