"""What a plugin says about one component: a name and where its code is, without importing it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cellweave.errors import PluginLoadError

__all__ = ["ComponentKind", "ComponentSpec"]

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class ComponentKind(StrEnum):
    """The kinds of part that a plugin can offer; each has a hook, a contract and a suite."""

    MODALITY = "modality"
    TOKENIZER = "tokenizer"
    ENCODER = "encoder"
    OBJECTIVE = "objective"
    TASK = "task"
    INTEGRATOR = "integrator"
    MODEL = "model"
    METRIC = "metric"

    @property
    def plural(self) -> str:
        """Give the plural noun that names the hook and the registry of this kind."""
        return "modalities" if self is ComponentKind.MODALITY else f"{self.value}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSpec:
    """Describe one component so that it can be listed without being imported.

    Parameters
    ----------
    name
        Lower case, dots as separators, starting with the plugin's own name:
        ``"rna.rank"``, ``"glue"``.
    target
        ``"package.module:attribute"``; imported only by ``create``.
    summary
        One line for people.
    modalities
        The modality names it works on; empty means any.
    requires
        Top-level modules that must be importable. A missing one is told before any import.
    install
        What ``pip install`` needs to bring the missing modules, e.g. ``"cellweave-spatial[io]"``.
    tags
        Capabilities that choose conformance checks, e.g. ``"transform"``, ``"save"``.
    """

    name: str
    target: str
    summary: str
    modalities: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: str | None = None
    tags: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse names and targets that the registry could not use."""
        if not _NAME.fullmatch(str(self.name)):
            msg = (
                f"Component name {self.name!r} is not valid. Use lower case letters, digits and "
                "underscores, with dots between parts, e.g. 'rna.rank'."
            )
            raise PluginLoadError(msg)
        if not _TARGET.fullmatch(str(self.target)):
            msg = (
                f"Target {self.target!r} of component {self.name!r} is not valid. "
                "Write it as 'package.module:attribute'."
            )
            raise PluginLoadError(msg)
