"""How an encoder remembers what it was built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["settings_of"]


def settings_of(local: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor from its ``locals()`` at its first line."""
    return {k: v for k, v in local.items() if k not in ("self", "__class__")}
