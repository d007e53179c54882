"""Where a result came from: enough to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

__all__ = ["Provenance", "reduce_record"]


def reduce_record(record: Any) -> tuple[Any, ...]:
    """Say how to pickle or copy a record whose frozen mappings cannot be pickled themselves."""
    values = {}
    for name in (f.name for f in fields(record)):
        value = getattr(record, name)
        values[name] = dict(value) if isinstance(value, MappingProxyType) else value
    return _rebuild, (type(record), values)


def _rebuild(kind: type, values: dict[str, Any]) -> Any:
    return kind(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Say which component, version, parameters, seed and inputs made a result.

    It holds no time stamp: the same inputs and seed give the same bytes.

    Parameters
    ----------
    component
        Registry name, e.g. ``"glue"``.
    version
        Version of the distribution that offered it.
    parameters
        Everything that was set, as JSON values.
    seed
        The seed, where randomness was involved.
    inputs
        Name of each input to the sha256 of its content.
    versions
        Versions of the libraries that decide numbers (numpy, torch …).
    """

    component: str
    version: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the mappings and check that they survive JSON."""
        for name in ("parameters", "inputs", "versions"):
            plain = json.loads(json.dumps(dict(getattr(self, name)), sort_keys=True))
            object.__setattr__(self, name, MappingProxyType(plain))

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_record(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, keys in a fixed order."""
        return {
            "component": self.component,
            "version": self.version,
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "inputs": dict(self.inputs),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Provenance:
        """Rebuild from :meth:`to_dict`."""
        return cls(**values)

    def to_json(self) -> str:
        """Return JSON text with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True)
