"""Fixtures for plugin tests: small data whose truth is known, and a plugin manager of one's own.

pytest loads this file by itself wherever cellweave-core is installed; nothing heavy is imported
until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.plugins import PluginManager
    from cellweave.records import FeatureLinks

__all__ = [
    "cellweave_global_state",
    "cellweave_links",
    "cellweave_mdata",
    "cellweave_prepared",
    "plugin_manager_factory",
]


@pytest.fixture
def cellweave_mdata() -> MuData:
    """Give raw simulated RNA, ATAC and protein of 240 cells, three types, truth known."""
    from cellweave.testing.planted import planted

    return planted(("rna", "atac", "prot"), prepared=False)


@pytest.fixture
def cellweave_prepared() -> MuData:
    """Give the prepared form of :func:`cellweave_mdata`."""
    from cellweave.testing.planted import planted

    return planted(("rna", "atac", "prot"))


@pytest.fixture
def cellweave_links(cellweave_prepared: MuData) -> tuple[FeatureLinks, ...]:
    """Give the true links of :func:`cellweave_prepared`."""
    from cellweave.testing.planted import links_between

    return links_between(cellweave_prepared)


@pytest.fixture
def cellweave_global_state() -> Iterator[None]:
    """Fail the test when it changes global state; put it back either way."""
    from cellweave.testing.global_state import global_state_unchanged

    with global_state_unchanged():
        yield


@pytest.fixture
def plugin_manager_factory(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PluginManager]:
    """Give a maker of plugin managers from modules; in the test, discovery is refused.

    ``manager = plugin_manager_factory(mine=my_plugin_module)`` knows that plugin and the built-in
    parts, whatever else is installed.
    """
    from cellweave.plugins import PluginManager

    def refuse(*_: Any, **__: Any) -> PluginManager:
        msg = "Discovery of installed plugins is off in this test. Use `plugin_manager_factory`."
        raise AssertionError(msg)

    monkeypatch.setattr(PluginManager, "discover", refuse)

    def make(**modules: ModuleType) -> PluginManager:
        return PluginManager.of(**modules)

    return make
