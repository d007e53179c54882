"""Regulatory inference: which linked features the model embeds alike, beyond chance.

The score of a link is the cosine of its two feature vectors, averaged over models (several seeds),
times nothing else: its sign is the inferred sign. p = (1 + #{null >= score}) / (1 + n_null), never
zero. There are two nulls, and they answer two questions:

- permuted vectors (the usual one): the rows of each modality's feature vectors are permuted and the
  links kept. Uniform when the vectors carry no information about the links. But the vectors were
  learnt on these links, so they do even where the data say nothing: linked features are embedded
  alike because they are linked. Such a p-value ranks links; it is no evidence for one;
- a background: fits of the same data with shuffled links. Their scores hold what the graph alone
  does, so p is uniform where a link is no better than a random one.

Both take the same average over models, so that a p-value of several models compares like with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellweave.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from cellweave.records import FeatureLinks
    from cellweave_glue.graph import GuidanceGraph

__all__ = [
    "RegulatoryLinks",
    "benjamini_hochberg",
    "empirical_p",
    "infer_regulation",
    "shuffled_links",
]

Alternative = Literal["greater", "less", "two-sided"]
_LEAST_NULL = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegulatoryLinks:
    """Hold links with their scores, one entry a link in every array."""

    source_modality: np.ndarray
    source: np.ndarray
    target_modality: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    sign: np.ndarray
    score: np.ndarray
    pvalue: np.ndarray
    qvalue: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """Return one row a link, surest first."""
        import pandas as pd

        frame = pd.DataFrame({name: getattr(self, name) for name in self.__slots__})
        order = np.lexsort((-np.abs(self.score), self.pvalue))
        return frame.iloc[order].reset_index(drop=True)


def infer_regulation(
    graph: GuidanceGraph,
    vectors: Sequence[np.ndarray],
    *,
    alternative: Alternative = "greater",
    background: tuple[GuidanceGraph, Sequence[np.ndarray]] | None = None,
    n_permutations: int | None = None,
    seed: int = 0,
) -> RegulatoryLinks:
    """Score every link of the graph.

    Parameters
    ----------
    graph
        The guidance graph.
    vectors
        Feature vectors in vertex order, one array a model.
    alternative
        ``"greater"`` asks for links that hold as the graph says (activating for sign +1),
        ``"less"`` for the opposite, ``"two-sided"`` for either.
    background
        Graph of shuffled links and feature vectors of fits on it, as many as ``vectors``; their
        scores are the null. Without it the vectors are permuted.
    n_permutations
        Permutations of the null; enough for 10 000 null scores when not given.
    seed
        For the permutations.
    """
    if alternative not in ("greater", "less", "two-sided"):
        msg = f"alternative={alternative!r}; expected 'greater', 'less' or 'two-sided'."
        raise ConfigError(msg)
    source, target, weight, sign = graph.links()
    if not len(source):
        msg = "The guidance graph has no links to score. Fit with feature links."
        raise DataError(msg)
    unit = [_unit_rows(v) for v in vectors]
    score = np.mean([_cosines(u, source, target) for u in unit], axis=0)
    if background is None:
        n = n_permutations or max(1, -(-_LEAST_NULL // len(source)))
        null = _null_scores(graph, unit, source, target, n, np.random.default_rng(seed))
    else:
        null = _background_scores(background, len(unit))
    pvalue = empirical_p(score, null, alternative)
    modality = np.repeat(graph.modalities, [len(graph.features[m]) for m in graph.modalities])
    names = np.concatenate([graph.features[m] for m in graph.modalities])
    return RegulatoryLinks(
        source_modality=modality[source],
        source=names[source],
        target_modality=modality[target],
        target=names[target],
        weight=weight,
        sign=sign,
        score=score.astype(np.float32),
        pvalue=pvalue,
        qvalue=benjamini_hochberg(pvalue),
    )


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    out: np.ndarray = vectors / np.maximum(norms, 1e-12)
    return out


def _cosines(unit: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.einsum("ij,ij->i", unit[source], unit[target])
    return out


def _null_scores(
    graph: GuidanceGraph,
    unit: Sequence[np.ndarray],
    source: np.ndarray,
    target: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Score the links of permuted features; features keep to their modality."""
    rounds = []
    for _ in range(n):
        order = np.arange(graph.n_vertices)
        for part in graph.offsets.values():
            order[part] = rng.permutation(order[part])
        rounds.append(np.mean([_cosines(u[order], source, target) for u in unit], axis=0))
    return np.sort(np.concatenate(rounds))


def _background_scores(
    background: tuple[GuidanceGraph, Sequence[np.ndarray]], n_models: int
) -> np.ndarray:
    graph, vectors = background
    if len(vectors) != n_models:
        msg = (
            f"{len(vectors)} background fits were given for {n_models} fits. Averages over other "
            "numbers of fits spread differently: give as many."
        )
        raise ConfigError(msg)
    source, target, *_ = graph.links()
    scores = [_cosines(_unit_rows(v), source, target) for v in vectors]
    return np.sort(np.mean(scores, axis=0))


def shuffled_links(links: FeatureLinks, *, seed: int = 0) -> FeatureLinks:
    """Return the same links to other features: those of the target change places at random.

    Every feature keeps how many links it has, or takes over how many another had. Fit on them for
    the background of :func:`infer_regulation`.
    """
    order = np.random.default_rng(seed).permutation(len(links.target_features))
    return replace(links, cols=order[links.cols].astype(np.int32))


def empirical_p(score: np.ndarray, null: np.ndarray, alternative: str) -> np.ndarray:
    """Return the share of sorted ``null`` as extreme as each score, never below 1 / (n + 1)."""
    n = len(null)
    above = (1 + n - np.searchsorted(null, score, side="left")) / (n + 1)
    below = (1 + np.searchsorted(null, score, side="right")) / (n + 1)
    if alternative == "greater":
        return above
    if alternative == "less":
        return below
    return np.minimum(2 * np.minimum(above, below), 1.0)


def benjamini_hochberg(pvalue: np.ndarray) -> np.ndarray:
    """Return false discovery rates."""
    n = len(pvalue)
    order = np.argsort(pvalue, kind="stable")
    steps = pvalue[order] * n / np.arange(1, n + 1)
    out = np.empty(n)
    out[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return out
