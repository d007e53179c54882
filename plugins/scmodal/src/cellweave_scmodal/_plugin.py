"""What cellweave-scmodal offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_integrators() -> Iterable[ComponentSpec]:
    """Offer the integrator."""
    yield ComponentSpec(
        name="scmodal",
        target="cellweave_scmodal.integrator:ScmodalIntegrator",
        summary="Adversarial alignment with linked features, latent cycles and geometry.",
        requires=("torch",),
        install="torch",
        tags=frozenset({"save", "transform", "impute"}),
    )
