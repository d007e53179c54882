"""The loader: what works, and eight kinds of broken plugin that must harm only themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from anndata import AnnData

from cellweave.errors import PluginConflictError, PluginLoadError, UnknownComponentError
from cellweave.hookspecs import hookimpl
from cellweave.linking import link_by_identity
from cellweave.plugins import PluginManager
from cellweave.records import LinkRequest
from cellweave.records.component import ComponentKind, ComponentSpec

HEAD = """
from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec
cellweave_api_version = 1
"""
GOOD = (
    HEAD
    + """
@hookimpl
def cellweave_integrators():
    yield ComponentSpec(name="{name}", target="{name}_code:Thing", summary="A good one.")
"""
)

BROKEN = {
    "import_error": ("from json import not_there\n", "ImportError"),
    "system_exit": ("raise SystemExit(3)\n", "SystemExit"),
    "base_exception": (
        "class Panic(BaseException):\n    pass\nraise Panic('rust went wrong')\n",
        "Panic",
    ),
    "wrong_type": (
        HEAD + "@hookimpl\ndef cellweave_integrators():\n    return ['wrong_type']\n",
        "gave str, expected ComponentSpec",
    ),
    "misspelt": (
        HEAD + "@hookimpl\ndef cellweave_integrator():\n    return []\n",
        "unknown hook 'cellweave_integrator'. Did you mean 'cellweave_integrators'",
    ),
    "missing_dependency": ("import a_library_nobody_has\n", "pip install a_library_nobody_has"),
    "other_api": ("cellweave_api_version = 99\n", "cellweave_api_version=99"),
}


def install(site: Path, plugin: str, code: str, *, distribution: str | None = None) -> None:
    """Make a distribution with one plugin, as pip would leave it on disk."""
    distribution = distribution or f"dist-{plugin.replace('_', '-')}"
    module = f"{distribution.replace('-', '_')}_plugin"
    (site / f"{module}.py").write_text(code)
    info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[cellweave.plugins]\n{plugin} = {module}\n")


def cellweave(site: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "cellweave", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environ},
        timeout=120,
        check=False,
    )


def listing(site: Path, **environ: str) -> dict:
    done = cellweave(site, "plugins", "--json", **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def only(names: str) -> dict[str, str]:
    """Leave the installed packages out, so that a test sees what it declares."""
    return {"CELLWEAVE_ONLY_PLUGINS": names}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_harms_only_itself(tmp_path, kind):
    code, reason = BROKEN[kind]
    install(tmp_path, kind, code)
    install(tmp_path, "good", GOOD.format(name="good"))
    seen = listing(tmp_path, **only(f"good,{kind}"))
    assert "good" in [c["name"] for c in seen["components"]]
    told = [line for line in seen["problems"] if f"dist-{kind.replace('_', '-')} 1.2" in line]
    assert len(told) == 1
    assert "\n" not in told[0]
    assert reason in told[0]
    assert cellweave(tmp_path, "schema", **only(f"good,{kind}")).returncode == 0


def test_a_name_from_two_distributions_names_both_and_leaves_the_rest(tmp_path):
    install(tmp_path, "twin", GOOD.format(name="twin"), distribution="twin-one")
    install(tmp_path, "twin", GOOD.format(name="twin"), distribution="twin-two")
    install(tmp_path, "good", GOOD.format(name="good"))
    seen = listing(tmp_path, **only("twin,good"))
    names = [c["name"] for c in seen["components"]]
    assert "good" in names
    assert "twin" not in names
    (line,) = [p for p in seen["problems"] if "twin-one 1.2" in p]
    assert "twin-two 1.2" in line
    assert "CELLWEAVE_DISABLE_PLUGINS=twin-two" in line
    healed = listing(tmp_path, CELLWEAVE_DISABLE_PLUGINS="twin-two", **only("twin,good"))
    assert "twin" in [c["name"] for c in healed["components"]]


def test_disable_and_only_choose_plugins(tmp_path):
    install(tmp_path, "one", GOOD.format(name="one"))
    install(tmp_path, "two", GOOD.format(name="two"))
    integrators = [
        c["name"]
        for c in listing(tmp_path, CELLWEAVE_DISABLE_PLUGINS="one", **only("one,two"))["components"]
        if c["kind"] == "integrator"
    ]
    assert integrators == ["two"]


def test_a_plugin_that_prints_does_not_spoil_the_json(tmp_path):
    install(tmp_path, "loud", "print('hello')\n" + GOOD.format(name="loud"))
    assert "loud" in [c["name"] for c in listing(tmp_path, **only("loud"))["components"]]


def module(name: str, **attributes: object) -> ModuleType:
    made = ModuleType(name)
    made.cellweave_api_version = 1
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


def offering(*specs: ComponentSpec) -> ModuleType:
    @hookimpl
    def cellweave_integrators():
        return specs

    return module("offering", cellweave_integrators=cellweave_integrators)


def spec(name: str, **more: object) -> ComponentSpec:
    return ComponentSpec(name=name, target="json:JSONDecoder", summary="A part.", **more)


def test_listing_imports_no_component_and_creating_does():
    manager = PluginManager.of(good=offering(spec("good"), spec("good.two")))
    registry = manager.registry(ComponentKind.INTEGRATOR)
    assert list(registry) == ["good", "good.two"]
    assert type(registry.create("good")).__name__ == "JSONDecoder"


def test_unknown_name_gives_the_closest_what_there_is_and_what_to_install():
    registry = PluginManager.of(maxfuse=offering(spec("maxfuse"))).registry(
        ComponentKind.INTEGRATOR
    )
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'maxfuse'\? Available: maxfuse"):
        registry["maxfus"]
    with pytest.raises(UnknownComponentError, match="pip install cellweave-glue"):
        registry["glue"]


def test_a_conflict_is_an_error_for_that_name_only():
    manager = PluginManager.of(a=offering(spec("a")), b=offering(spec("a")))
    assert "must start with 'b'" in " ".join(manager.problems())
    manager = PluginManager.of(a=offering(spec("a"), spec("a"), spec("a.other")))
    registry = manager.registry(ComponentKind.INTEGRATOR)
    assert list(registry) == ["a.other"]
    with pytest.raises(PluginConflictError, match="'a' is provided by a 0 and by a 0"):
        registry["a"]


def test_a_missing_module_is_told_before_anything_is_imported():
    wants = spec("good", requires=("no_such_lib",), install="cellweave-good[extra]")
    registry = PluginManager.of(good=offering(wants)).registry(ComponentKind.INTEGRATOR)
    with pytest.raises(PluginLoadError, match=r"pip install 'cellweave-good\[extra\]'"):
        registry.create("good")


def test_a_target_that_breaks_is_told_with_its_distribution():
    broken = ComponentSpec(name="good", target="json:not_there", summary="Broken.")
    registry = PluginManager.of(good=offering(broken)).registry(ComponentKind.INTEGRATOR)
    with pytest.raises(PluginLoadError, match=r"'good' from 'json:not_there' \(good 0\)"):
        registry.create("good")


def test_a_question_hook_that_raises_is_passed_over():
    @hookimpl
    def cellweave_guess_modality(adata):
        raise RuntimeError("no")

    @hookimpl(specname="cellweave_guess_modality")
    def answers(adata):
        return "rna"

    manager = PluginManager.of(
        good=module("good", answers=answers),
        bad=module("bad", cellweave_guess_modality=cellweave_guess_modality),
    )
    assert manager.guess_modality(object()) == "rna"
    assert "raised RuntimeError: no" in " ".join(manager.problems())


def test_wrong_hook_arguments_refuse_the_plugin():
    @hookimpl
    def cellweave_guess_modality(cells):
        return "rna"

    manager = PluginManager.of(bad=module("bad", cellweave_guess_modality=cellweave_guess_modality))
    assert "its hooks do not fit" in " ".join(manager.problems())
    assert manager.guess_modality(object()) is None


@pytest.mark.parametrize("name", ["Glue", "glue-x", "", "1a", "a..b"])
def test_names_that_could_not_be_used_are_refused(name):
    with pytest.raises(PluginLoadError, match="is not valid"):
        spec(name)


def test_plugins_are_asked_about_kinds_and_answers_keep_the_names():
    asked = []

    @hookimpl
    def cellweave_link_features(request):
        asked.append((request.source, request.target))
        return link_by_identity(request) if request.source != request.target else None

    @hookimpl
    def cellweave_modalities():
        yield ComponentSpec(name="rna", target="nowhere:Thing", summary="A modality.")

    own = module(
        "rna",
        cellweave_link_features=cellweave_link_features,
        cellweave_modalities=cellweave_modalities,
    )
    manager = PluginManager.of(rna=own)
    cells = AnnData(np.ones((2, 2), dtype=np.float32))
    request = LinkRequest(source="rna2", target="other", source_data=cells, target_data=cells)
    links = manager.link_features(request)
    assert asked == [("rna", "other")]
    assert (links.source, links.target) == ("rna2", "other")
    twins = replace(request, source="rna", target="rna_spleen")
    manager.link_features(twins)
    assert asked[-1] == ("rna", "rna_spleen")
    assert [manager.modality_kind(k) for k in ("rna", "rna.2", "rnaseq")] == ["rna", "rna", None]
