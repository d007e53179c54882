"""What cellweave-glue offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_integrators() -> Iterable[ComponentSpec]:
    """Offer GLUE."""
    yield ComponentSpec(
        name="glue",
        target="cellweave_glue.integrator:GlueIntegrator",
        summary="Graph-linked autoencoders for two or more unpaired modalities.",
        requires=("torch",),
        install="cellweave-glue",
        tags=frozenset({"save", "transform"}),
    )
