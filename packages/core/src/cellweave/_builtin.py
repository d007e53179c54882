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


@hookimpl
def cellweave_tokenizers() -> Iterable[ComponentSpec]:
    """Offer the tokenizer of several modalities at once."""
    yield ComponentSpec(
        name="core.multiomic",
        target="cellweave.tokenizing:MultiOmicTokenizer",
        summary="Several modalities of a cell in one sequence, mosaic cells allowed.",
        tags=frozenset({"fit", "several"}),
    )
