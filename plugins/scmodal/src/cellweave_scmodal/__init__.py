"""scMODAL: adversarial alignment of modalities with linked features, cycles and geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_scmodal.integrator import ScmodalIntegrator as ScmodalIntegrator

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"ScmodalIntegrator": "cellweave_scmodal.integrator"}
)
