"""Data that the project makes itself: multi-omic cells whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.datasets.design import SimulationDesign as SimulationDesign
    from cellweave.datasets.prepared import prepare_simulated as prepare_simulated
    from cellweave.datasets.simulation import simulate as simulate
    from cellweave.datasets.simulation import simulate_blocks as simulate_blocks
    from cellweave.datasets.truth import hide_pairing as hide_pairing
    from cellweave.datasets.truth import true_links as true_links
    from cellweave.datasets.writing import write_simulated as write_simulated

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "SimulationDesign": "cellweave.datasets.design",
        "hide_pairing": "cellweave.datasets.truth",
        "prepare_simulated": "cellweave.datasets.prepared",
        "simulate": "cellweave.datasets.simulation",
        "simulate_blocks": "cellweave.datasets.simulation",
        "true_links": "cellweave.datasets.truth",
        "write_simulated": "cellweave.datasets.writing",
    },
)
