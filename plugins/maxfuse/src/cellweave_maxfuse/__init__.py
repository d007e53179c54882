"""MaxFuse for cellweave: cells of two or more modalities matched over few, weak links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_maxfuse.assignment import assign as assign
    from cellweave_maxfuse.cca import canonical_correlation as canonical_correlation
    from cellweave_maxfuse.integrator import MaxFuse as MaxFuse
    from cellweave_maxfuse.metacells import metacells as metacells
    from cellweave_maxfuse.spatial import neighbourhood_composition as neighbourhood_composition

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MaxFuse": "cellweave_maxfuse.integrator",
        "assign": "cellweave_maxfuse.assignment",
        "canonical_correlation": "cellweave_maxfuse.cca",
        "metacells": "cellweave_maxfuse.metacells",
        "neighbourhood_composition": "cellweave_maxfuse.spatial",
    },
)
