"""How far to trust a fit, in numbers, and in sentences where it looks poor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellweave_glue.graph import GuidanceGraph

__all__ = ["advice_on"]

_FEW_LINKS = 10
_UNSURE = 0.05


def advice_on(
    graph: GuidanceGraph,
    *,
    consistency: tuple[int, float],
    mixing: float,
) -> tuple[str, ...]:
    """Say what looks poor and what to try; nothing when it looks sound."""
    out = []
    if graph.n_links < _FEW_LINKS:
        out.append(
            f"Only {graph.n_links} links join the modelled features: the match rests on few "
            "features. Add links (a marker table, a wider window) or more linked features."
        )
    size, value = consistency
    if not value >= _UNSURE:
        found = f"{value:.3f}" if np.isfinite(value) else "not computable"
        out.append(
            f"Linked features hardly vary together over {size} joint clusters (consistency "
            f"{found}, reliable above {_UNSURE}). Check that links and organism fit the data, use "
            "more highly variable genes, or compare with another integrator."
        )
    chance = float(np.log(len(graph.modalities)))
    if mixing < 0.7 * chance:
        out.append(
            f"The discriminator still tells the modalities apart (loss {mixing:.2f}, mixed at "
            f"{chance:.2f}). They may share few types; else raise lam_align or progress."
        )
    return tuple(out)
