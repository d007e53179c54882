"""What cellweave-bindsc offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_integrators() -> Iterable[ComponentSpec]:
    """Offer bindSC."""
    yield ComponentSpec(
        name="bindsc",
        target="cellweave_bindsc.integrator:BindSC",
        summary="Bi-order canonical correlation of cells and features; imputation. Fast, CPU.",
        tags=frozenset({"save", "transform", "deterministic"}),
    )
