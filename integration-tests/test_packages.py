"""What holds for every package: same shape, honest dependencies, no code from data."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellweave.config.described import component_settings
from cellweave.plugins import get_plugin_manager
from cellweave.records import ComponentKind

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(
    p.parent
    for pattern in ("packages/*/pyproject.toml", "plugins/*/pyproject.toml")
    for p in ROOT.glob(pattern)
)
SOURCES = sorted(p for folder in FOLDERS for p in folder.glob("src/**/*.py"))
DISTRIBUTION_OF = {
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "umap": "umap-learn",
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "leidenalg": "leidenalg",
    "spatialdata_io": "spatialdata-io",
    "scib_metrics": "scib-metrics",
    "scvi": "scvi-tools",
    "pyimzml": "pyimzml",
    "_pytest": "pytest",
}
# Never imported by us, but what we call needs it and does not declare it.
NEEDED_BY_OTHERS = {"scikit-image": "scanpy's scrublet", "pyarrow": "pandas' parquet"}


def project_of(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def names_of(requirements: list[str]) -> set[str]:
    cut = [r.split(";")[0] for r in requirements]
    for mark in "><=[!~ ":
        cut = [r.split(mark)[0] for r in cut]
    return {r.strip().lower() for r in cut}


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree, leaving out what only type checkers read."""
    for child in ast.iter_child_nodes(tree):
        if not is_for_type_checkers(child):
            yield child
            yield from running_nodes(child)


def top_level_imports(file: Path, own: str) -> set[str]:
    found = set()
    for node in running_nodes(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return {n for n in found if n not in sys.stdlib_module_names and n != own}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_declares_exactly_what_it_imports(folder):
    project = project_of(folder)
    extras = project.get("optional-dependencies", {})
    declared = names_of([*project["dependencies"], *(r for e in extras.values() for r in e)])
    required = names_of(project["dependencies"])
    (package,) = (folder / "src").iterdir()
    used: set[str] = set()
    for file in package.rglob("*.py"):
        if "template_files" not in file.parts:
            used |= top_level_imports(file, package.name)
    used = {DISTRIBUTION_OF.get(n, n).lower().replace("_", "-") for n in used}
    used = {"cellweave-core" if n == "cellweave" else n for n in used}
    assert not used - declared, f"imported and not declared: {sorted(used - declared)}"
    unused = {r.replace("_", "-") for r in required} - used - set(NEEDED_BY_OTHERS)
    assert not unused, f"declared and never imported: {sorted(unused)}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_has_the_common_shape(folder):
    project = project_of(folder)
    (package,) = (folder / "src").iterdir()
    assert (package / "py.typed").exists()
    assert len((folder / "README.md").read_text()) > 200
    assert project["license"] == "BSD-3-Clause"
    assert list((folder / "tests").rglob("test_*.py"))
    if folder.name != "core":
        assert project["name"] == f"cellweave-{folder.name}"
        assert (package / "_plugin.py").exists()
        points = project["entry-points"]["cellweave.plugins"]
        assert list(points.values()) == [f"{package.name}._plugin"]
        assert any(d.startswith("cellweave-core>=") and ",<" in d for d in project["dependencies"])


def test_versions_move_in_lockstep():
    root = project_of(ROOT)
    versions = {project_of(f)["version"] for f in FOLDERS} | {root["version"]}
    assert len(versions) == 1
    listed = {r.split("==")[0] for r in root["optional-dependencies"]["all"]}
    assert listed == {project_of(f)["name"] for f in FOLDERS} - {"cellweave-core"}


FORBIDDEN_CALLS = {"eval", "exec"}
FORBIDDEN_KEYWORDS = {("allow_pickle", True), ("weights_only", False), ("trust_remote_code", True)}
FORBIDDEN_IMPORTS = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
MAY_NAME_PICKLE = {
    "integrator_fit_checks.py": "pickles and unpickles what the check itself has made",
    "tokenizer_suite.py": "pickles and unpickles what the check itself has made",
    "pickled.py": "an unpickler whose `find_class` knows a short list of names",
    "torch_files.py": "names the error that torch raises for a refused pickle",
}


@pytest.mark.parametrize("file", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_can_run_code_from_data(file):
    forbidden = FORBIDDEN_IMPORTS - ({"pickle"} if file.name in MAY_NAME_PICKLE else set())
    for node in ast.walk(ast.parse(file.read_text())):
        where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            assert not {a.name.split(".")[0] for a in node.names} & forbidden, where
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in forbidden, where
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None)
            assert name not in FORBIDDEN_CALLS, where
            attribute = getattr(node.func, "attr", None)
            assert attribute not in {"extractall", "unsafe_load", "full_load"}, where
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                assert (keyword.arg, value) not in FORBIDDEN_KEYWORDS, where


LISTING = (
    "import sys; from cellweave.cli import main; code = main(['plugins', '--json']); "
    "heavy = {'torch', 'numpy', 'pandas', 'anndata', 'scanpy', 'muon', 'matplotlib'}; "
    "sys.stderr.write(' '.join(sorted(heavy & set(sys.modules)))); sys.exit(code)"
)


def test_listing_plugins_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", LISTING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_importing_a_package_does_nothing(folder):
    (package,) = (folder / "src").iterdir()
    code = (
        "import sys, random, warnings; before = (random.getstate(), list(warnings.filters)); "
        f"import {package.name}; "
        "assert before == (random.getstate(), list(warnings.filters)); "
        "heavy = {'torch', 'scanpy', 'muon', 'matplotlib', 'anndata'} & set(sys.modules); "
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_every_setting_of_every_component_is_explained():
    silent = {
        f"{component.spec.name}: {setting.name}"
        for component in get_plugin_manager().components()
        if not component.missing_modules()
        for setting in component_settings(component)
        if not setting.meaning
    }
    assert not silent


def test_every_modality_tells_the_settings_of_its_preparation():
    modalities = get_plugin_manager().registry(ComponentKind.MODALITY).components
    assert [name for name, c in modalities.items() if not component_settings(c)] == []
