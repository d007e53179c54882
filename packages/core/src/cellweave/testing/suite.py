"""What all suites share: named checks, tags that choose them, failures that are expected."""

from __future__ import annotations

import functools
import sys
import unittest
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from cellweave.errors import CellweaveError, ConfigError, closest

__all__ = ["ExpectedFailure", "Suite", "in_runner", "needs_tag", "refusal", "require", "unless_tag"]

# Set while our own runner calls a check, so that a check knows who listens.
in_runner: ContextVar[bool] = ContextVar("in_runner", default=False)

Check = TypeVar("Check", bound=Callable[..., None])


class Suite:
    """Check one component against its contract.

    An author subclasses the suite of the contract, gives :meth:`create`, and runs pytest::

        class TestMine(IntegratorSuite):
            tags = frozenset({"save"})

            def create(self, **arguments):
                return MyIntegrator(n_components=8, **arguments)

    Attributes
    ----------
    tags
        Capabilities of the component; they choose checks. Take those of its ``ComponentSpec``.
    expected_failures
        Name of a check to the reason why the component fails it. It is then reported as an
        expected failure, and as a failure once it passes.
    """

    kind: ClassVar[str] = ""
    tags: ClassVar[frozenset[str]] = frozenset()
    expected_failures: ClassVar[Mapping[str, str]] = {}
    _kept: ClassVar[dict[str, Any]] = {}

    def create(self, **arguments: Any) -> Any:
        """Return a new component, small enough for tests, with ``arguments`` passed on."""
        msg = f"{type(self).__name__} has no `create`. Return a new component from it."
        raise NotImplementedError(msg)

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse overridden checks, and expected failures without a check or a reason."""
        super().__init_subclass__(**options)
        if cls.__module__.startswith("cellweave.testing."):
            return
        _refuse_overrides(cls)
        _refuse_empty_reasons(cls)
        for name, reason in cls.expected_failures.items():
            check = getattr(cls, name)
            if not getattr(check, "__cellweave_expected__", False):
                setattr(cls, name, _expected_to_fail(check, reason))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gave the first time any check of this class asked for ``name``."""
        cls = type(self)
        if "_kept" not in cls.__dict__:
            cls._kept = {}
        if name not in cls._kept:
            cls._kept[name] = make()
        return cls._kept[name]

    @classmethod
    def checks(cls) -> list[str]:
        """Name every check of the suite."""
        return sorted(name for name in dir(cls) if name.startswith("test_"))


def require(condition: object, message: str) -> None:
    """Fail the check with what is wrong and what mends it."""
    if not condition:
        raise AssertionError(message)


@contextmanager
def refusal(what: str, *errors: type[Exception]) -> Iterator[list[str]]:
    """Expect the block to raise one of our errors (or of ``errors``) with a text worth reading."""
    expected = errors or (CellweaveError,)
    names = " or ".join(e.__name__ for e in expected)
    text: list[str] = []
    try:
        yield text
    except expected as error:
        text.append(str(error))
        require(len(str(error)) > 15, f"{what}: the error has no text. Say what is wrong and why.")
        return
    except Exception as error:
        msg = (
            f"{what}: expected {names}, got {type(error).__name__}: {error}. "
            f"Check for it first and raise {names} with the value and what to do."
        )
        raise AssertionError(msg) from error
    msg = f"{what} was accepted. Raise {names} before any work, with the value and what to do."
    raise AssertionError(msg)


def needs_tag(tag: str) -> Callable[[Check], Check]:
    """Skip the check unless the component has the tag."""
    return _chosen_by(tag, present=True)


def unless_tag(tag: str) -> Callable[[Check], Check]:
    """Skip the check when the component has the tag."""
    return _chosen_by(tag, present=False)


def _chosen_by(tag: str, *, present: bool) -> Callable[[Check], Check]:
    def decorate(check: Check) -> Check:
        @functools.wraps(check)
        def chosen(self: Suite) -> None:
            if (tag in self.tags) is not present:
                reason = f"for components {'with' if present else 'without'} the tag {tag!r}"
                raise unittest.SkipTest(reason)
            check(self)

        return chosen  # type: ignore[return-value]

    return decorate


class ExpectedFailure(unittest.SkipTest):
    """Signal a failure that was announced with a reason."""


def _expected_to_fail(check: Callable[..., None], reason: str) -> Callable[..., None]:
    @functools.wraps(check)
    def tried(self: Suite) -> None:
        try:
            check(self)
        except unittest.SkipTest:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the failure is, it was expected
            _report_expected(reason, error)
        msg = f"{check.__name__} passes although {reason!r}. Take it out of `expected_failures`."
        raise AssertionError(msg)

    tried.__cellweave_expected__ = True  # type: ignore[attr-defined]
    return tried


def _report_expected(reason: str, error: Exception) -> None:
    """Leave the check: as an xfail where pytest called it, else as a skip that the runner knows."""
    if "_pytest.runner" in sys.modules and not in_runner.get():
        import pytest

        pytest.xfail(f"{reason} ({error})")
    raise ExpectedFailure(reason) from error


def _suite_classes(cls: type[Suite]) -> list[type]:
    return [c for c in cls.__mro__ if c.__module__.startswith("cellweave.testing.")]


def _refuse_overrides(cls: type[Suite]) -> None:
    overridden = []
    for owner in _suite_classes(cls):
        for name, check in vars(owner).items():
            found = getattr(cls, name, None)
            expected = getattr(found, "__cellweave_expected__", False)
            if name.startswith("test_") and found is not check and not expected:
                overridden.append(name)
    if overridden:
        msg = (
            f"{cls.__name__} overrides {', '.join(sorted(set(overridden)))}. Checks may not be "
            "overridden; add `expected_failures = {'<check>': '<reason>'}` instead."
        )
        raise ConfigError(msg)


def _refuse_empty_reasons(cls: type[Suite]) -> None:
    known = cls.checks()
    for name, reason in cls.expected_failures.items():
        if name not in known:
            msg = f"`expected_failures` of {cls.__name__} names {name!r}, which is no check."
            raise ConfigError(msg + closest(name, known))
        if not str(reason).strip():
            msg = (
                f"`expected_failures[{name!r}]` of {cls.__name__} has no reason. "
                "Say in words why the component fails this check."
            )
            raise ConfigError(msg)
