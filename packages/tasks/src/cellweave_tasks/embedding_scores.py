r"""One embedding scored: do types stay apart, do batches mix, is the geometry that of biology.

Definitions of scib (Luecken et al. 2022) by the metrics of ``cellweave.evaluation``; clusters by
the protocol of Kedzierska et al. 2025 (see ``cellweave.evaluation.louvain``). Means over these:

- avg_bio = (NMI + ARI + ASW by type) / 3
- avg_batch = (ASW by batch within types + graph connectivity) / 2
- overall = 0.6 · mean(NMI, ARI, ASW by type, cLISI) + 0.4 · mean(ASW by batch, connectivity, iLISI)

pcr_batch is the share of the embedding's variance that batches tell: :math:`\sum_k
(Var_k / \sum Var) R^2(PC_k \sim batch)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.louvain import best_louvain
from cellweave.evaluation.running import evaluate_input
from cellweave.preparing.components import principal_components
from cellweave.records import Score
from cellweave_tasks.rogi import label_roughness
from cellweave_tasks.scgraph import TypeDistances, column_agreement, embedding_distances

__all__ = ["Geometry", "embedding_scores", "variance_of_batches"]

_SUITE = ("silhouette", "silhouette_batch", "graph_connectivity", "lisi", "kbet")
_OURS = ("asw_type", "asw_batch", "graph_connectivity", "clisi_type", "ilisi_batch", "kbet_batch")
_NAME = "cells"
_MOST_FOR_A_TREE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Distances between types that an embedding should show, or why there are none."""

    within_batches: TypeDistances | None = None
    no_batches: str = ""
    ontology: TypeDistances | None = None
    no_ontology: str = ""
    trim: float = 0.2


def embedding_scores(
    points: np.ndarray,
    labels: np.ndarray,
    batches: np.ndarray | None,
    *,
    method: str,
    geometry: Geometry | None = None,
    scib: bool = False,
    seed: int = 0,
    note: str = "",
) -> list[Score]:
    """Return every score of one embedding.

    Parameters
    ----------
    points
        ``(n, d)``.
    labels, batches
        One a cell; ``batches`` is ``None`` where there is one.
    method
        What is scored, as in tables.
    geometry
        What scGraph compares with.
    scib
        Add the numbers of the package scib-metrics.
    seed
        Of what samples.
    note
        What a reader must know of the embedding.
    """
    values = np.asarray(points, dtype=np.float32)
    wanted = geometry or Geometry(no_batches="not asked for", no_ontology="not asked for")
    scores = _clusters(values, labels, seed)
    scores += _suite(values, labels, batches, seed)
    scores.append(_batch_share(values, batches, seed))
    scores.append(_rogi(values, labels, seed))
    scores += _geometry(values, labels, wanted)
    scores = _means(scores) + scores
    if scib:
        from cellweave_tasks.scib_suite import scib_scores

        scores += scib_scores(values, labels, batches, seed=seed)
    return [
        replace(s, method=method, seed=seed, note="; ".join(t for t in (s.note, note) if t))
        for s in scores
    ]


def variance_of_batches(points: np.ndarray, batches: np.ndarray, *, seed: int = 0) -> float:
    """Return the share of variance that batches tell, over up to 50 principal components."""
    size = min(50, *points.shape)
    scores = principal_components(points, size, seed=seed)[0].astype(np.float64)
    codes = np.unique(batches, return_inverse=True)[1]
    counts = np.bincount(codes)
    centred = scores - scores.mean(axis=0)
    sums = np.stack([np.bincount(codes, weights=column) for column in centred.T])
    between = (sums**2 / counts).sum(axis=1)
    whole = (centred**2).sum(axis=0)
    # Σ (Var_k / Σ Var) · between_k / whole_k: the whole of each component cancels.
    return float(between.sum() / max(whole.sum(), 1e-300))


def _clusters(points: np.ndarray, labels: np.ndarray, seed: int) -> list[Score]:
    best = best_louvain(points, labels, seed=seed)
    note = f"best NMI of 20 Louvain resolutions: {best.resolution}"
    return [
        Score(metric=name, value=value, best=1.0, chance=0.0, note=note)
        for name, value in (("nmi", best.nmi), ("ari", best.ari))
    ]


def _suite(
    points: np.ndarray, labels: np.ndarray, batches: np.ndarray | None, seed: int
) -> list[Score]:
    data = MetricInput(
        embeddings={_NAME: points},
        labels={_NAME: labels.astype(object)},
        batches=None if batches is None else {_NAME: batches.astype(object)},
        seed=seed,
    )
    reasons = {"batches": "there is one batch"}
    every = evaluate_input(data, metrics=_SUITE, reasons=reasons)
    found = {s.metric: s for s in reversed(every) if s.group in ("", _NAME)}
    return [_known(found, name) for name in _OURS]


def _known(found: dict[str, Score], name: str) -> Score:
    if name in found:
        return replace(found[name], group="")
    # kBET tells what it lacks under its own short name.
    reason = found["kbet"].note if "kbet" in found and name == "kbet_batch" else "not computed"
    return Score(metric=name, value=None, best=1.0, note=reason)


def _batch_share(points: np.ndarray, batches: np.ndarray | None, seed: int) -> Score:
    value = None if batches is None else variance_of_batches(points, batches, seed=seed)
    note = "there is one batch" if value is None else "share of variance that batches tell"
    return Score(metric="pcr_batch", value=value, higher_is_better=False, best=0.0, note=note)


def _rogi(points: np.ndarray, labels: np.ndarray, seed: int) -> Score:
    note = "roughness of types, mean over types"
    if len(points) > _MOST_FOR_A_TREE:
        rows = np.random.default_rng(seed).choice(len(points), _MOST_FOR_A_TREE, replace=False)
        points, labels = points[rows], labels[rows]
        note += f"; on {_MOST_FOR_A_TREE} cells drawn at random"
    value = label_roughness(points, labels)
    return Score(metric="rogi", value=value, higher_is_better=False, best=0.0, note=note)


def _geometry(points: np.ndarray, labels: np.ndarray, wanted: Geometry) -> list[Score]:
    found = embedding_distances(points, labels, trim=wanted.trim)

    def score(name: str, target: TypeDistances | None, why_not: str, how: str) -> Score:
        return _explained(name, lambda: column_agreement(found, _need(target, why_not), how=how))

    scores = [
        score(f"scgraph_{how}", wanted.within_batches, wanted.no_batches, how)
        for how in ("pearson", "spearman", "weighted")
    ]
    ontology = score("scgraph_ontorwr", wanted.ontology, wanted.no_ontology, "pearson")
    return [*scores, ontology]


def _need(target: TypeDistances | None, why_not: str) -> TypeDistances:
    if target is None:
        raise DataError(why_not)
    return target


def _explained(name: str, compute: Callable[[], float]) -> Score:
    try:
        return Score(metric=name, value=compute(), best=1.0, chance=0.0)
    except DataError as error:
        return Score(metric=name, value=None, best=1.0, chance=0.0, note=str(error))


def _means(scores: Sequence[Score]) -> list[Score]:
    value = {s.metric: s.value for s in scores}
    bio, batch = ("nmi", "ari", "asw_type"), ("asw_batch", "graph_connectivity")
    items = [
        Score(metric=name, value=_mean(value, parts), best=1.0, note=_of(value, parts))
        for name, parts in (("avg_bio", bio), ("avg_batch", batch))
    ]
    kept = _mean(value, (*bio, "clisi_type"))
    mixed = _mean(value, (*batch, "ilisi_batch"))
    whole = None if kept is None or mixed is None else 0.6 * kept + 0.4 * mixed
    note = "" if whole is not None else "needs types and batches"
    return [*items, Score(metric="overall", value=whole, best=1.0, note=note)]


def _mean(value: dict[str, float | None], parts: Sequence[str]) -> float | None:
    numbers = [v for p in parts if (v := value[p]) is not None]
    return float(np.mean(numbers)) if len(numbers) == len(parts) else None


def _of(value: dict[str, float | None], parts: Sequence[str]) -> str:
    absent = [p for p in parts if value[p] is None]
    return f"needs {', '.join(absent)}" if absent else f"mean of {', '.join(parts)}"
