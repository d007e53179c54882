"""Find components by name, and import one only when it is created."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cellweave.errors import (
    MissingDependencyError,
    PluginConflictError,
    PluginLoadError,
    UnknownComponentError,
    closest,
    one_of,
)
from cellweave.records.component import ComponentKind, ComponentSpec

__all__ = ["KNOWN_DISTRIBUTIONS", "Component", "Registry"]

# What `pip install` would bring a name that no installed plugin offers: first part of the
# component name to distribution. Third parties are found by people, not by this table.
_OURS = (
    "rna atac protein spatial metabolomics nn tasks glue maxfuse bindsc scmodal geneformer "
    "scgpt scbert scfoundation tosica uce nicheformer cellplm genemamba scmulan"
)
KNOWN_DISTRIBUTIONS: Mapping[str, str] = {
    **{name: f"cellweave-{name}" for name in _OURS.split(" ")},
    "prot": "cellweave-protein",
    "metab": "cellweave-metabolomics",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One registered component: its spec and where it came from."""

    kind: ComponentKind
    spec: ComponentSpec
    plugin: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """Name distribution and version."""
        return f"{self.distribution} {self.version}"

    def missing_modules(self) -> tuple[str, ...]:
        """List required top-level modules that are not installed, importing none."""
        return tuple(m for m in self.spec.requires if importlib.util.find_spec(m) is None)

    def load(self) -> Any:
        """Import the target and return it."""
        spec = self.spec
        if missing := self.missing_modules():
            wanted = spec.install or " ".join(missing)
            msg = (
                f"{self.kind.value.capitalize()} {spec.name!r} ({self.origin}) needs "
                f"{', '.join(missing)}, which is not installed. Run: pip install '{wanted}'."
            )
            raise MissingDependencyError(msg)
        module_name, _, attribute = spec.target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything; it harms only itself
            raise self._load_error(error) from error

    def _load_error(self, error: BaseException) -> PluginLoadError:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        text = (
            f"Cannot load {self.kind.value} {self.spec.name!r} from {self.spec.target!r} "
            f"({self.origin}): {reason}."
        )
        if isinstance(error, ModuleNotFoundError) and error.name:
            top = error.name.partition(".")[0]
            return MissingDependencyError(f"{text} Run: pip install '{self.spec.install or top}'.")
        return PluginLoadError(
            f"{text} Update it with `pip install -U {self.distribution}`, "
            f"or set CELLWEAVE_DISABLE_PLUGINS={self.plugin}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry(Mapping[str, Component]):
    """All components of one kind, by name. Reading it imports nothing.

    Parameters
    ----------
    kind
        The kind.
    components
        Usable components by name.
    conflicts
        Contested names to all components that claim them.
    notes
        One line for each plugin that did not load; repeated when a lookup fails.
    """

    kind: ComponentKind
    components: Mapping[str, Component] = field(default_factory=dict)
    conflicts: Mapping[str, tuple[Component, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Component:
        """Return the component, or say what is available and what would bring it."""
        if name in self.components:
            return self.components[name]
        if name in self.conflicts:
            raise PluginConflictError(conflict_text(name, self.conflicts[name]))
        raise UnknownComponentError(self._unknown_text(name))

    def __iter__(self) -> Iterator[str]:
        """Iterate over usable names, sorted."""
        return iter(sorted(self.components))

    def __len__(self) -> int:
        """Count usable components."""
        return len(self.components)

    def __contains__(self, name: object) -> bool:
        """Tell whether a name is usable; `Mapping` would ask by KeyError, which we never raise."""
        return name in self.components

    def get(self, name: str, default: Any = None) -> Any:
        """Return the component, or ``default`` when the name is not usable."""
        return self.components.get(name, default)

    def create(self, name: str, **arguments: Any) -> Any:
        """Import the component and construct it with keyword arguments."""
        return self[name].load()(**arguments)

    def _unknown_text(self, name: str) -> str:
        text = (
            f"Unknown {self.kind.value} {name!r}.{closest(name, self.components)} "
            f"Available: {one_of(self.components)}."
        )
        bring = KNOWN_DISTRIBUTIONS.get(str(name).partition(".")[0])
        installed = {c.distribution for c in self.components.values()}
        if bring and bring not in installed:
            text += f" Install it with: pip install {bring}."
        return " ".join((text, *self.notes))


def conflict_text(name: str, claims: tuple[Component, ...]) -> str:
    """Say which distributions claim one name, and what to do."""
    origins = " and by ".join(c.origin for c in claims)
    return (
        f"{claims[0].kind.value.capitalize()} {name!r} is provided by {origins}. Uninstall one, "
        f"or set CELLWEAVE_DISABLE_PLUGINS={claims[-1].distribution}."
    )
