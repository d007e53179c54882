"""Read configuration files safely: no tags, few aliases, all problems told at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cellweave.errors import ConfigError, closest

__all__ = ["load_config", "parse_config"]

_MAX_BYTES = 1 << 20
_MAX_ALIASES = 100
_MAX_DEPTH = 50

Model = TypeVar("Model", bound=BaseModel)


class _LimitedLoader(yaml.SafeLoader):
    """A safe loader that stops at alias bombs and bottomless nesting."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._aliases = 0
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node, counting aliases and depth."""
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
        self._depth += 1
        if self._aliases > _MAX_ALIASES or self._depth > _MAX_DEPTH:
            msg = f"more than {_MAX_ALIASES} aliases or {_MAX_DEPTH} levels"
            raise yaml.YAMLError(msg)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def load_config(path: str | Path, model: type[Model]) -> Model:
    """Read a YAML or JSON file into ``model``.

    Raises
    ------
    ConfigError
        With every problem of the file: its place, the value, what was expected.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf8") if size <= _MAX_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Cannot read the configuration {str(path)!r}: {error}. Give a YAML or JSON file."
        raise ConfigError(msg) from error
    if size > _MAX_BYTES:
        msg = f"The configuration {str(path)!r} has {size} bytes. Expected at most {_MAX_BYTES}."
        raise ConfigError(msg)
    return parse_config(_parse_text(text, path), model, source=str(path))


def parse_config(values: Any, model: type[Model], *, source: str = "configuration") -> Model:
    """Check plain values against ``model``."""
    if not isinstance(values, Mapping):
        msg = f"{source!r} holds a {type(values).__name__}. Expected keys and values."
        raise ConfigError(msg)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_describe(problem, model) for problem in error.errors()]
        msg = f"{source!r} does not fit: " + " ".join(lines)
        raise ConfigError(msg) from error


def _parse_text(text: str, path: Path) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(text)
        return yaml.load(text, Loader=_LimitedLoader)  # a SafeLoader with limits
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        msg = f"{str(path)!r} is not valid YAML or JSON: {reason}. Mend it there."
        raise ConfigError(msg) from error


def _describe(problem: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "top level"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        hint = closest(str(problem["loc"][-1]), known)
        return f"Unknown key {place!r}.{hint} Known: {', '.join(sorted(known))}."
    if problem["type"] == "missing":
        return f"Key {place!r} is missing."
    return f"{place!r} is {problem['input']!r}: {problem['msg']}."


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            current = annotation
    return list(getattr(current, "model_fields", {}))
