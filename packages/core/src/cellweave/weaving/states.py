"""What reading the state of a fitted integrator shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.errors import StateMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from cellweave.records import ComponentState

__all__ = ["histories_of", "require_state"]


def require_state(state: ComponentState, component: str, *, method: str) -> None:
    """Refuse a state of another component, or one whose arrays are not all there.

    ``state.extra["arrays"]`` lists the arrays it was made with; ``method`` is how errors call it.
    """
    if state.component != component:
        msg = (
            f"This state is of component {state.component!r}. Expected {component!r}: load it "
            "with the integrator that made it."
        )
        raise StateMismatchError(msg)
    expected, found = set(state.extra.get("arrays", ())), set(state.arrays)
    if expected != found or not expected:
        msg = (
            f"The {method} state lacks {sorted(expected - found)} and has unknown "
            f"{sorted(found - expected)}. Expected exactly the arrays it was saved with: save the "
            "fitted integrator again."
        )
        raise StateMismatchError(msg)


def histories_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays under ``history/`` by what follows."""
    prefix = "history/"
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
