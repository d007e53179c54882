"""List and create components by name."""

from __future__ import annotations

from typing import Any

from cellweave.config.arguments import coerce_arguments, require_arguments
from cellweave.errors import ConfigError, closest, one_of
from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind
from cellweave.registry import Component

__all__ = ["available", "create", "kind_of"]


def available(kind: str | None = None) -> list[Component]:
    """List the components that are installed, all kinds or one; imports none of them.

    Examples
    --------
    >>> import cellweave
    >>> [c.spec.name for c in cellweave.available("integrator")]  # doctest: +SKIP
    ['bindsc', 'glue', 'maxfuse', 'scmodal']
    """
    manager = get_plugin_manager()
    if kind is None:
        return manager.components()
    return list(manager.registry(kind_of(kind)).components.values())


def create(kind: str, name: str, **arguments: Any) -> Any:
    """Import one component and construct it, its arguments checked and coerced.

    Examples
    --------
    >>> import cellweave
    >>> weaver = cellweave.create("integrator", "glue", seed=0)  # doctest: +SKIP
    """
    target = get_plugin_manager().registry(kind_of(kind))[name].load()
    values = coerce_arguments(target, arguments, name=name)
    require_arguments(target, values, name=name)
    return target(**values)


def kind_of(kind: str) -> ComponentKind:
    """Return the kind by its singular or plural name."""
    for candidate in ComponentKind:
        if kind in (candidate.value, candidate.plural):
            return candidate
    names = [k.value for k in ComponentKind]
    msg = f"Unknown kind {kind!r}.{closest(kind, names)} Available: {one_of(names)}."
    raise ConfigError(msg)
