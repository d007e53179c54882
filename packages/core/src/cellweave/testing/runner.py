"""Run a suite in this process, without pytest."""

from __future__ import annotations

import importlib
import time
import traceback
import unittest
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cellweave.errors import ConfigError, closest, one_of
from cellweave.testing.suite import ExpectedFailure, Suite, in_runner

if TYPE_CHECKING:
    from cellweave.records import ComponentSpec

__all__ = ["CheckResult", "check", "run_suite", "suite_for"]

Outcome = Literal["passed", "failed", "skipped", "expected failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Say how one check went; ``message`` is the failure's text or the reason of a skip."""

    name: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0


def check(
    component_class: Any, kind: str, *, spec: ComponentSpec | None = None
) -> list[CheckResult]:
    """Run the suite of ``kind`` on a component class.

    Parameters
    ----------
    component_class
        The class that a ``ComponentSpec`` targets. It is built without arguments, unless its
        attribute ``conformance_suite = "package.module:Suite"`` names a suite that knows how.
    kind
        ``"tokenizer"``, ``"integrator"`` …
    spec
        Its ``ComponentSpec``; gives tags and modalities.
    """
    suite = suite_for(component_class, kind, spec=spec)
    failure = _cannot_create(suite)
    return [failure] if failure else run_suite(suite)


def suite_for(component_class: Any, kind: str, *, spec: ComponentSpec | None = None) -> type[Suite]:
    """Return a suite of ``kind`` that creates ``component_class`` from the arguments given."""
    own = getattr(component_class, "conformance_suite", None)
    if own is not None:
        return _imported(own)
    base = _suite_of(kind)

    def create(_: Suite, **arguments: Any) -> Any:
        return component_class(**arguments)

    body: dict[str, Any] = {"create": create, "__module__": __name__.replace("testing", "checked")}
    if spec is not None:
        body["tags"] = frozenset(spec.tags)
        if spec.modalities and hasattr(base, "modalities"):
            body["modalities"] = tuple(spec.modalities)
    return type(f"{getattr(component_class, '__name__', kind)}Suite", (base,), body)


def run_suite(suite: type[Suite], *, only: Iterable[str] | None = None) -> list[CheckResult]:
    """Run every check of a suite class, or those named in ``only``, each on a new instance."""
    known = suite.checks()
    chosen = known if only is None else list(only)
    for name in chosen:
        if name not in known:
            msg = f"{suite.__name__} has no check {name!r}.{closest(name, known)}"
            raise ConfigError(msg)
    return [_run_one(suite, name) for name in chosen]


def _imported(place: str) -> type[Suite]:
    module, _, name = place.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Suite)):
        msg = f"`conformance_suite` {place!r} is no suite. Write 'package.module:SuiteClass'."
        raise ConfigError(msg)
    return found


def _cannot_create(suite: type[Suite]) -> CheckResult | None:
    """Return the one failure that all checks would share, when nothing can be created."""
    try:
        suite().create()
    except unittest.SkipTest:
        return None
    except Exception as error:  # noqa: BLE001 - a constructor may raise anything
        message = (
            f"{_told(error)}. Give every argument of the constructor a default, or name a suite "
            "that knows the arguments in the class attribute `conformance_suite`."
        )
        return CheckResult(name="create", outcome="failed", message=message)
    return None


def _suite_of(kind: str) -> type[Suite]:
    from cellweave import testing

    suites = {
        name.removesuffix("Suite").lower(): name
        for name in testing.__all__
        if name.endswith("Suite") and name != "Suite"
    }
    if kind not in suites:
        msg = f"There is no suite for {kind!r}.{closest(kind, suites)} There are: {one_of(suites)}."
        raise ConfigError(msg)
    found: type[Suite] = getattr(testing, suites[kind])
    return found


def _run_one(suite: type[Suite], name: str) -> CheckResult:
    start = time.perf_counter()
    outcome: Outcome = "passed"
    message = ""
    token = in_runner.set(True)
    try:
        getattr(suite(), name)()
    except ExpectedFailure as reason:
        outcome, message = "expected failure", str(reason)
    except unittest.SkipTest as reason:
        outcome, message = "skipped", str(reason)
    except AssertionError as failure:
        outcome, message = "failed", str(failure)
    except Exception as error:  # noqa: BLE001 - a component may raise anything
        outcome, message = "failed", _told(error)
    finally:
        in_runner.reset(token)
    seconds = time.perf_counter() - start
    return CheckResult(name=name, outcome=outcome, message=message, seconds=seconds)


def _told(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (raised at {place.filename}:{place.lineno})"
