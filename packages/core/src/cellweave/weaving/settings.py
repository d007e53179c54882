"""What the settings of integrators share: one refusal for all that is wrong, and JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from cellweave.errors import ConfigError

__all__ = ["json_settings", "require_settings"]


def require_settings(method: str, rules: Iterable[tuple[bool, str]]) -> None:
    """Refuse every rule that does not hold, all of them in one message.

    Parameters
    ----------
    method
        How errors call it.
    rules
        Whether each holds, and what to say where it does not.
    """
    problems = [text for holds, text in rules if not holds]
    if problems:
        msg = f"{method} cannot use these settings: {' '.join(problems)}"
        raise ConfigError(msg)


def json_settings(settings: Any) -> dict[str, Any]:
    """Return a record of settings as JSON values."""
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in asdict(settings).items()}
