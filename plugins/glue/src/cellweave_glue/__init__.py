"""GLUE for cellweave: weave unpaired modalities through a graph of linked features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_glue.integrator import GlueIntegrator as GlueIntegrator
    from cellweave_glue.regulation import RegulatoryLinks as RegulatoryLinks
    from cellweave_glue.regulation import shuffled_links as shuffled_links
    from cellweave_glue.transfer import transfer_labels as transfer_labels

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "GlueIntegrator": "cellweave_glue.integrator",
        "RegulatoryLinks": "cellweave_glue.regulation",
        "shuffled_links": "cellweave_glue.regulation",
        "transfer_labels": "cellweave_glue.transfer",
    },
)
