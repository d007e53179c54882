"""What cellweave-maxfuse offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_integrators() -> Iterable[ComponentSpec]:
    """Offer MaxFuse."""
    yield ComponentSpec(
        name="maxfuse",
        target="cellweave_maxfuse.integrator:MaxFuse",
        summary="Match cells over weak links: smoothing, matching and CCA in turns. Fast, CPU.",
        tags=frozenset({"save", "transform", "deterministic"}),
    )
