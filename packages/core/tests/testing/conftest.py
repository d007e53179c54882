"""The good components that mutants are made from: those of the plugin template itself."""

import importlib.util
import sys

import pytest

from cellweave.testing.template import render

_CLASSES = {"integrator": "ReferenceIntegrator", "tokenizer": "ReferenceTokenizer"}


@pytest.fixture(scope="session")
def reference_component(tmp_path_factory):
    """Give, by kind, the class that the template renders."""

    def load(kind):
        name = f"cellweave_reference_{kind}"
        if name not in sys.modules:
            folder = tmp_path_factory.mktemp(kind) / "plugin"
            render(folder, name="reference", kind=kind)
            path = folder / "src" / "cellweave_reference" / f"{kind}.py"
            spec = importlib.util.spec_from_file_location(name, path)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return getattr(sys.modules[name], _CLASSES[kind])

    return load
