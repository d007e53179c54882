"""Fit arguments that come as text or JSON to a component's constructor."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from cellweave.errors import ConfigError, closest

__all__ = ["coerce_arguments", "parse_settings", "require_arguments"]


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Turn ``["key=value", …]`` of the command line into values (YAML scalars and lists)."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            msg = f"{pair!r} is not a setting. Write --set key=value."
            raise ConfigError(msg)
        try:
            settings[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            msg = f"The value of --set {pair!r} cannot be read. Quote it, e.g. {key}='text'."
            raise ConfigError(msg) from error
    return settings


def coerce_arguments(target: Any, arguments: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Check ``arguments`` against the keyword parameters of ``target``; all problems at once.

    Parameters
    ----------
    target
        A class or function.
    arguments
        Values from a configuration or the command line.
    name
        What the user calls the component.
    """
    parameters = {
        n: p
        for n, p in inspect.signature(target).parameters.items()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and n != "self"
    }
    hints = hints_of(target)
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in arguments.items():
        if key not in parameters:
            known = ", ".join(sorted(parameters)) or "none"
            problems.append(f"Unknown setting {key!r}.{closest(key, parameters)} Known: {known}.")
            continue
        try:
            values[key] = _fit(value, hints.get(key, Any))
        except ValidationError as error:
            expected = error.errors()[0]["msg"]
            problems.append(f"Setting {key!r} is {value!r}: {expected}.")
    if problems:
        msg = f"{name!r} cannot be set up. " + " ".join(problems)
        raise ConfigError(msg)
    return values


def require_arguments(target: Any, arguments: Mapping[str, Any], *, name: str) -> None:
    """Refuse arguments that lack what ``target`` cannot do without."""
    missing = [
        repr(n)
        for n, p in inspect.signature(target).parameters.items()
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and n not in arguments
    ]
    if missing:
        msg = (
            f"{name!r} cannot be set up without {', '.join(missing)}. Give it, on the command line "
            "with --set key=value."
        )
        raise ConfigError(msg)


def hints_of(target: Any) -> dict[str, Any]:
    """Return the types of a constructor's or a function's arguments, where they can be told."""
    # The constructor of a dataclass knows only names of its own module; the class asks every base.
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(target if is_dataclass(target) else function)
    except (NameError, TypeError):  # names imported for type checkers only
        return {}


def _fit(value: Any, hint: Any) -> Any:
    try:
        return TypeAdapter(hint).validate_python(value)
    except PydanticSchemaGenerationError:  # a type pydantic does not know: let the component judge
        return value
