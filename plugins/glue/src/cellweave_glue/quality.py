"""How far to trust a fit, in numbers, and in sentences where it looks poor."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from cellweave.kernels.neighbours import nearest

if TYPE_CHECKING:
    from cellweave_glue.graph import GuidanceGraph

__all__ = ["advice_on", "lonely_share", "lonely_shares"]

_FEW_LINKS = 10
_UNSURE = 0.05
_LONELY_SHARE = 0.05
_MOST_CELLS = 4000
_NEIGHBOURS = 15
_FAR = 3.0
_RARE = 0.1


def lonely_share(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of cells of ``a`` that lie among cells which ``b`` does not reach.

    A type that ``b`` lacks is a whole neighbourhood three times as far from the cells of ``b`` as
    is usual, with hardly a cell of ``b`` among its neighbours. A type that resembles another one
    is drawn to that and does not show.

    Parameters
    ----------
    a, b
        Rows at unit length.
    """
    k = min(_NEIGHBOURS, len(a) - 1, len(b))
    if k < 1:
        return 0.0
    own, _ = nearest(a, None, k, metric="cosine", exclude_self=True)
    other, _ = nearest(a, b, k, metric="cosine")
    far = 1 - np.einsum("id,ikd->i", a, b[other]) / k
    both, _ = nearest(a, np.vstack([a, b]), 2 * k + 1, metric="cosine")
    met = (both >= len(a)).mean(1)
    odds = met / np.maximum(1 - met, 1e-2) * len(a) / len(b)
    around_far, around_odds = far[own].mean(1), odds[own].mean(1)
    lonely = (around_far > _FAR * np.median(around_far)) & (around_odds < _RARE)
    return float(lonely.mean())


def lonely_shares(directions: Mapping[str, np.ndarray], *, seed: int) -> dict[str, float]:
    """Return :func:`lonely_share` of every modality against every other, on a sample of cells."""
    rng = np.random.default_rng(seed)
    some = {}
    for m in sorted(directions):
        rows = rng.permutation(len(directions[m]))[:_MOST_CELLS]
        some[m] = directions[m][np.sort(rows)]
    return {f"lonely_{a}_to_{b}": lonely_share(some[a], some[b]) for a, b in permutations(some, 2)}


def advice_on(
    quality: Mapping[str, float],
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
    return (*out, *_on_lonely(quality, graph.modalities))


def _on_lonely(quality: Mapping[str, float], modalities: tuple[str, ...]) -> list[str]:
    shares = {(a, b): quality[f"lonely_{a}_to_{b}"] for a, b in permutations(modalities, 2)}
    return [
        f"{share:.0%} of the cells of {a!r} lie far from all cells of {b!r}, which may lack their "
        "type; labels carried between them mean nothing then. Find them in the report (one "
        "modality alone) and leave them out of what you conclude."
        for (a, b), share in shares.items()
        if share > _LONELY_SHARE
    ]
