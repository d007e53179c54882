"""Discover plugins so that a broken one harms only itself; the only place that touches pluggy.

Our own loop replaces pluggy's, which drops a duplicate entry point silently and stops at the
first plugin that raises. A plugin is *discovered* (an entry point exists), *disabled* (by the
environment), *failed* (with a reason), or *registered*; its components are imported by none of
these, only when one is created.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from cellweave.errors import CellweaveError, closest
from cellweave.hookspecs import API_VERSION, ENTRY_POINT_GROUP, PROJECT, PluginSpecs
from cellweave.keys import kind_of_key
from cellweave.records.component import ComponentKind, ComponentSpec
from cellweave.registry import Component, Registry, conflict_text

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["PluginFailure", "PluginManager", "get_plugin_manager"]

DISABLE_VARIABLE = "CELLWEAVE_DISABLE_PLUGINS"
ONLY_VARIABLE = "CELLWEAVE_ONLY_PLUGINS"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginFailure:
    """Say why a plugin, or one of its hooks, is not in use, and what to do."""

    plugin: str
    distribution: str
    version: str
    reason: str
    fix: str

    def __str__(self) -> str:
        """Tell it in one line with the distribution."""
        return (
            f"Plugin {self.plugin!r} of {self.distribution} {self.version}: "
            f"{self.reason} {self.fix}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An entry point reduced to what loading needs, so that tests can make their own."""

    plugin: str
    distribution: str
    version: str
    load: Callable[[], Any]


def _new_pluggy() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(PluginSpecs)
    return manager


@dataclass(slots=True)
class PluginManager:
    """Hold registered plugins, the registries built from them, and what failed."""

    _pluggy: pluggy.PluginManager = field(default_factory=_new_pluggy)
    _sources: dict[str, _Source] = field(default_factory=dict)
    failures: list[PluginFailure] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    _registries: dict[ComponentKind, Registry] = field(default_factory=dict)

    @classmethod
    def discover(cls, *, environ: Mapping[str, str] | None = None) -> PluginManager:
        """Load every installed plugin that the environment allows."""
        environ = os.environ if environ is None else environ
        manager = cls()
        manager._register_builtin()
        for source in sorted(_installed(), key=lambda s: (s.plugin, s.distribution)):
            if _is_allowed(source, environ):
                manager._load(source)
            else:
                manager.disabled.append(source.plugin)
        return manager

    @classmethod
    def of(cls, **modules: ModuleType) -> PluginManager:
        """Build a manager from modules given by plugin name; nothing is discovered."""
        manager = cls()
        manager._register_builtin()
        for name, module in modules.items():
            manager._load(
                _Source(
                    plugin=name,
                    distribution=name,
                    version="0",
                    load=lambda module=module: module,  # type: ignore[misc]
                )
            )
        return manager

    def registry(self, kind: ComponentKind) -> Registry:
        """Return the registry of one kind."""
        if kind not in self._registries:
            self._registries[kind] = self._build(kind)
        return self._registries[kind]

    def components(self) -> list[Component]:
        """List every usable component of every kind."""
        return [c for kind in ComponentKind for c in self.registry(kind).components.values()]

    def problems(self) -> list[str]:
        """List, one line each, plugins that failed and names that are contested."""
        registries = [self.registry(kind) for kind in ComponentKind]  # builds add failures
        lines = [str(failure) for failure in self.failures]
        for registry in registries:
            lines += [conflict_text(n, claims) for n, claims in registry.conflicts.items()]
        return lines

    def guess_modality(self, adata: AnnData) -> str | None:
        """Ask the modality plugins what ``adata`` is; ``None`` when none knows it."""
        answer = self._ask("cellweave_guess_modality", adata)
        return answer if isinstance(answer, str) else None

    def link_features(self, request: LinkRequest) -> FeatureLinks | None:
        """Ask the plugins to link two modalities; ``None`` when none knows both.

        Plugins are asked about kinds: of ``rna2`` and ``atac`` as of ``rna`` and ``atac``. Two
        sets of one kind keep their names: which is which must stay clear.
        """
        source, target = self.modality_kind(request.source), self.modality_kind(request.target)
        asked = request
        if source != target:
            asked = replace(
                request, source=source or request.source, target=target or request.target
            )
        answer: FeatureLinks | None = self._ask("cellweave_link_features", asked)
        if answer is None or asked is request:
            return answer
        return replace(answer, source=request.source, target=request.target)

    def modality_kind(self, key: str) -> str | None:
        """Return which installed modality ``key`` names: ``"rna"`` for ``"rna2"``."""
        return kind_of_key(key, self.modalities())

    def modalities(self) -> set[str]:
        """Return the names that the installed modalities go by."""
        specs = [c.spec for c in self.registry(ComponentKind.MODALITY).components.values()]
        return {name for spec in specs for name in (spec.name, *spec.modalities)}

    def _ask(self, hook: str, argument: Any) -> Any:
        """Return the first answer, last registered first; a plugin that raises is passed over.

        Our own errors pass through: they speak about the caller's data, not about the plugin.
        """
        for implementation in reversed(getattr(self._pluggy.hook, hook).get_hookimpls()):
            try:
                answer = implementation.function(argument)
            except (CellweaveError, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - a hook may raise anything
                source = self._sources[implementation.plugin_name]
                reason = f"{hook}() raised {type(error).__name__}: {error}."
                self._fail(source, reason, _update(source))
            else:
                if answer is not None:
                    return answer
        return None

    def _register_builtin(self) -> None:
        from cellweave import _builtin

        self._load(
            _Source(
                plugin="core",
                distribution="cellweave-core",
                version=_version_of("cellweave-core"),
                load=lambda: _builtin,
            )
        )

    def _load(self, source: _Source) -> None:
        problem = self._try_register(source)
        if problem:
            reason, fix = problem
            self._fail(source, reason, fix)

    def _fail(self, source: _Source, reason: str, fix: str) -> None:
        self.failures.append(
            PluginFailure(
                plugin=source.plugin,
                distribution=source.distribution,
                version=source.version,
                reason=reason,
                fix=fix,
            )
        )

    def _try_register(self, source: _Source) -> tuple[str, str] | None:
        try:
            # A plugin that prints while it is imported must not spoil our standard output.
            with contextlib.redirect_stdout(sys.stderr):
                module = source.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and PyO3's PanicException are no Exceptions
            return _import_problem(source, error)
        problem = _module_problem(source, module)
        if problem:
            return problem
        key = f"{source.distribution}:{source.plugin}"
        try:
            self._pluggy.register(module, name=key)
        except (pluggy.PluginValidationError, ValueError, TypeError) as error:
            if self._pluggy.has_plugin(key):  # pluggy 1.6 leaves it half registered
                self._pluggy.unregister(name=key)
            reason = " ".join(str(error).split())
            return f"its hooks do not fit: {reason}.", _update(source)
        self._sources[key] = source
        return None

    def _build(self, kind: ComponentKind) -> Registry:
        found: dict[str, list[Component]] = {}
        hook = getattr(self._pluggy.hook, f"cellweave_{kind.plural}")
        for implementation in hook.get_hookimpls():
            source = self._sources[implementation.plugin_name]
            for spec in self._specs_of(source, implementation.function, hook.name):
                component = Component(
                    kind=kind,
                    spec=spec,
                    plugin=source.plugin,
                    distribution=source.distribution,
                    version=source.version,
                )
                found.setdefault(spec.name, []).append(component)
        return Registry(
            kind=kind,
            components={n: c[0] for n, c in found.items() if len(c) == 1},
            conflicts={n: tuple(c) for n, c in found.items() if len(c) > 1},
            notes=tuple(str(failure) for failure in self.failures),
        )

    def _specs_of(
        self, source: _Source, offer: Callable[[], Iterable[Any]], hook: str
    ) -> list[ComponentSpec]:
        try:
            offered = list(offer())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a hook may raise anything; it harms only itself
            reason = f"{hook}() raised {type(error).__name__}: {error}."
            self._fail(source, reason, _update(source))
            return []
        wrong = [o for o in offered if not isinstance(o, ComponentSpec)]
        if wrong:
            reason = f"{hook}() gave {type(wrong[0]).__name__}, expected ComponentSpec records."
            self._fail(source, reason, _update(source))
            return []
        prefix = source.plugin
        alien = [
            s.name for s in offered if s.name != prefix and not s.name.startswith(f"{prefix}.")
        ]
        if alien:
            reason = f"{hook}() offers {alien[0]!r}; names must start with {prefix!r}."
            self._fail(source, reason, _update(source))
        return [s for s in offered if s.name not in alien]


@lru_cache(maxsize=1)
def get_plugin_manager() -> PluginManager:
    """Return the plugins installed in this environment, discovered once a process."""
    return PluginManager.discover()


def _installed() -> Iterable[_Source]:
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        name = point.dist.name if point.dist else "unknown"
        version = point.dist.version if point.dist else "unknown"
        yield _Source(plugin=point.name, distribution=name, version=version, load=point.load)


def _is_allowed(source: _Source, environ: Mapping[str, str]) -> bool:
    names = {source.plugin, source.distribution}
    only = _listed(environ.get(ONLY_VARIABLE))
    return not names & _listed(environ.get(DISABLE_VARIABLE)) and (not only or bool(names & only))


def _listed(value: str | None) -> set[str]:
    return {part.strip() for part in (value or "").split(",") if part.strip()}


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _import_problem(source: _Source, error: BaseException) -> tuple[str, str]:
    reason = f"it raised {type(error).__name__} when imported: {error}".rstrip(": ") + "."
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        own = top.replace("_", "-") == source.distribution.replace("_", "-")
        what = f"--force-reinstall {source.distribution}" if own else top
        return f"it needs the module {error.name!r}, which is missing.", f"Run: pip install {what}."
    return reason, _update(source)


def _module_problem(source: _Source, module: Any) -> tuple[str, str] | None:
    if not isinstance(module, ModuleType):
        reason = f"its entry point gives a {type(module).__name__}, expected a module."
        return reason, _update(source)
    declared = getattr(module, "cellweave_api_version", None)
    if declared != API_VERSION:
        reason = f"it declares cellweave_api_version={declared!r}, this cellweave {API_VERSION}."
        return reason, f"Run: pip install -U {source.distribution} cellweave-core."
    known = {n for n in vars(PluginSpecs) if n.startswith("cellweave_")}
    for name in sorted(_hook_names(module) - known):
        reason = f"it implements the unknown hook {name!r}.{closest(name, known)}"
        return reason, _update(source)
    return None


def _hook_names(module: ModuleType) -> set[str]:
    """Collect the hooks that a module implements, by the marker that ``@hookimpl`` leaves."""
    names = set()
    for name in dir(module):
        value = inspect.getattr_static(module, name)
        options = getattr(value, f"{PROJECT}_impl", None) if inspect.isroutine(value) else None
        if options is not None:
            names.add(options.get("specname") or name)
    return names


def _update(source: _Source) -> str:
    return f"Run: pip install -U {source.distribution}, or set {DISABLE_VARIABLE}={source.plugin}."
