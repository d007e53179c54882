"""Tell what the settings of a component are: name, type, default, and what its docstring says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from cellweave.config.arguments import hints_of
from cellweave.records.component import ComponentKind

if TYPE_CHECKING:
    from cellweave.registry import Component

__all__ = ["Setting", "component_settings", "settings_of"]

_SECTION = re.compile(r"^(?P<name>[A-Z][A-Za-z ]+)\n-+$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Describe one keyword of a constructor, or one field of a settings record.

    ``default`` is ``None`` where a value must be given.
    """

    name: str
    kind: str
    default: str | None
    meaning: str


def component_settings(component: Component) -> tuple[Setting, ...]:
    """Return what may be set: the constructor's arguments, or those of a modality's preparation."""
    target = component.load()
    if component.kind is ComponentKind.MODEL:
        return ()  # read from files, not set up by keywords
    if component.kind is ComponentKind.MODALITY:
        record = getattr(target, "settings_type", None)
        return settings_of(resolve_name(record)) if record else ()
    return settings_of(target)


def settings_of(target: Callable[..., Any]) -> tuple[Setting, ...]:
    """Return the settings of a class, a settings record or a function, in order.

    What a base class says of a setting that it brings counts, unless the class says it anew; for
    a function, what the class says that it builds.
    """
    hints = hints_of(target)
    meanings: dict[str, str] = {}
    for place in _told_by(target, hints):
        meanings |= _meanings(inspect.cleandoc(place.__doc__ or ""))
    return tuple(
        Setting(
            name=name,
            kind=_kind(hints.get(name, parameter.annotation)),
            default=_default(parameter),
            meaning=meanings.get(name, ""),
        )
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    )


def _told_by(target: Callable[..., Any], hints: dict[str, Any]) -> list[Any]:
    """Return whose docstrings tell about the settings, the most specific last."""
    if inspect.isclass(target):
        return [*reversed(inspect.getmro(target))]
    built = hints.get("return")
    return [*(reversed(inspect.getmro(built)) if inspect.isclass(built) else ()), target]


def _kind(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "any"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("typing.", "").replace("collections.abc.", "")


def _default(parameter: inspect.Parameter) -> str | None:
    if parameter.default is inspect.Parameter.empty:
        return None
    # A field with a factory shows only that there is one.
    shown = repr(parameter.default)
    return "(made anew)" if shown == "<factory>" else shown


def _meanings(text: str) -> dict[str, str]:
    """Read the ``Parameters`` section of a numpydoc docstring: names, then indented words."""
    sections = list(_SECTION.finditer(text))
    found = next((s for s in sections if s["name"] == "Parameters"), None)
    if found is None:
        return {}
    ends = [s.start() for s in sections if s.start() > found.start()]
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in text[found.end() : min(ends, default=len(text))].splitlines():
        if line and not line.startswith(" "):
            names = [n.strip() for n in line.split(" : ")[0].split(",")]
        elif line.strip():
            for name in names:
                meanings[name] = f"{meanings.get(name, '')} {line.strip()}".strip()
    return meanings
