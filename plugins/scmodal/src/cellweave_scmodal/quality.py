"""How far to trust a weave: agreement of the links, mixing of the modalities, and advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellweave.kernels.neighbours import nearest

if TYPE_CHECKING:
    from cellweave.weaving import LinkedCoordinates

__all__ = ["advice_on", "quality_of"]

_WEAK_AGREEMENT = 0.01
_POOR_MIXING = 0.5
_MIXING_CELLS = 2000


def quality_of(
    embeddings: Mapping[str, np.ndarray], pairs: Sequence[LinkedCoordinates], seed: int
) -> dict[str, float]:
    """Return, for each pair, the agreement of its links and how it mixes; 1 is what chance gives.

    Mixing: the share of the other modality among the 15 nearest cells, over what it is at random.
    """
    rng = np.random.default_rng(seed)
    quality = {}
    for pair in pairs:
        quality[f"agreement_{pair.source}_{pair.target}"] = pair.shared_variance
        a, b = (_sampled(embeddings[n], rng) for n in (pair.source, pair.target))
        both = np.vstack([a, b])
        is_first = np.arange(len(both)) < len(a)
        at, _ = nearest(both, k=min(15, len(both) - 1), exclude_self=True)
        other = (is_first[at] != is_first[:, None]).mean()
        expected = 2 * is_first.mean() * (1 - is_first.mean())
        quality[f"mixing_{pair.source}_{pair.target}"] = float(other / max(expected, 1e-9))
    return quality


def _sampled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if len(values) <= _MIXING_CELLS:
        return values
    return values[np.sort(rng.choice(len(values), _MIXING_CELLS, replace=False))]


def advice_on(quality: Mapping[str, float]) -> tuple[str, ...]:
    """Return what looks poor and what to try; nothing when it looks sound."""
    sentences = []
    for name, value in quality.items():
        kind, _, pair = name.partition("_")
        if kind == "agreement" and value < _WEAK_AGREEMENT:
            sentences.append(
                f"The linked features of {pair.replace('_', ' and ')} share {value:.1%} of their "
                "variance with their neighbours: they are close to noise. Link more features, or "
                "raise smoothing_neighbors."
            )
        if kind == "mixing" and value < _POOR_MIXING:
            sentences.append(
                f"{pair.replace('_', ' and ')} mix at {value:.0%} of what chance gives: they are "
                "not aligned. Raise n_steps or adversarial, or look whether they hold the same "
                "cell types."
            )
    return tuple(sentences)
