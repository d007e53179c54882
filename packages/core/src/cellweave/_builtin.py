"""What the core itself offers, registered like any plugin."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_metrics() -> Iterable[ComponentSpec]:
    """Offer the metrics of `cellweave.evaluation`."""
    from cellweave.evaluation.specs import SPECS

    yield from SPECS
