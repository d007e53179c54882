"""Watch a call: what it returns, prints, changes in its inputs and in the process."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cellweave.testing.digests import changed_parts, digests_of
from cellweave.testing.global_state import GlobalState
from cellweave.testing.suite import require

__all__ = [
    "Observation",
    "observed",
    "require_keyword_only",
    "require_quiet",
    "require_same_state",
    "require_unchanged",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Hold what one call returned and what it left behind."""

    value: Any
    printed: str
    state_changes: tuple[str, ...]
    input_changes: tuple[str, ...]


def observed(call: Callable[[Any], Any], data: Any) -> Observation:
    """Call ``call(data)`` and watch; global state is put back afterwards.

    Libraries that are imported for the first time may set filters, variables or draw random
    names. What a second call changes again is the component's own doing.
    """
    first = _once(call, data)
    if not first.state_changes:
        return first
    second = _once(call, data)
    lasting = tuple(c for c in first.state_changes if c in second.state_changes)
    return replace(first, value=second.value, state_changes=lasting)


def _once(call: Callable[[Any], Any], data: Any) -> Observation:
    digests = digests_of(data)
    out = io.StringIO()
    before = GlobalState.now()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            value = call(data)
        changes = tuple(before.differences())
    finally:
        before.put_back()
    return Observation(
        value=value,
        printed=out.getvalue(),
        state_changes=changes,
        input_changes=tuple(changed_parts(digests, data)),
    )


def require_unchanged(observation: Observation, what: str) -> None:
    """Fail when the call changed its input."""
    require(
        not observation.input_changes,
        f"{what} changed its input at {', '.join(observation.input_changes[:5])}. "
        "Work on a copy, or compute from the arrays without writing to them.",
    )


def require_quiet(observation: Observation, what: str) -> None:
    """Fail when the call printed."""
    require(
        not observation.printed,
        f"{what} printed {observation.printed[:60]!r}. Use `logging.getLogger(__name__)` for "
        "notes and the progress callback for progress.",
    )


def require_same_state(observation: Observation, what: str) -> None:
    """Fail when the call changed global state."""
    changes = observation.state_changes
    hint = ""
    if any(change.startswith("random.getstate") for change in changes):
        hint = (
            " (Building or copying a MuData draws from `random`: work on the AnnData of "
            "`mdata.mod`, or restore `random.getstate()`.)"
        )
    require(
        not changes,
        f"{what} changed global state: {', '.join(changes)}. Make local generators from `seed` "
        f"and leave global switches as they are.{hint}",
    )


def require_keyword_only(component: Any) -> None:
    """Fail when the constructor takes positional arguments."""
    parameters = inspect.signature(type(component)).parameters.values()
    loose = [
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
    ]
    require(
        not loose,
        f"The constructor of {type(component).__name__} takes {', '.join(loose)} by position. "
        "Put `*` before the first argument.",
    )
