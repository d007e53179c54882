"""Re-export names without importing the modules that define them (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, exports: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` for a package's ``__init__``.

    Parameters
    ----------
    package
        The package's ``__name__``.
    exports
        Public name to the module that defines it, or to ``"module:"`` for a module itself.
    """

    def load(name: str) -> object:
        if name not in exports:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        module_name = exports[name]
        if module_name.endswith(":"):
            value: object = importlib.import_module(module_name[:-1])
        else:
            value = getattr(importlib.import_module(module_name), name)
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(exports)
    return load, lambda: names, names
