"""Does a label cross over: the nearest cells of another modality vote for a cell's type.

1-NN as in scMODAL and SCMMIB, k-NN by majority (a tie goes to the label of the nearest voter).
Chance is the share of the commonest type of the reference among the query cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.neighbours import nearest
from cellweave.labels import is_known
from cellweave.records import Score

__all__ = ["LabelTransfer", "Transferred", "transfer", "vote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """Hold the true and the transferred label of each known query cell, and chance.

    ``absent`` is the share of query cells whose type the reference lacks: they cannot be right.
    """

    true: np.ndarray
    given: np.ndarray
    chance: float
    absent: float

    @property
    def accuracy(self) -> float:
        """Share of cells that got their own label."""
        return float((self.true == self.given).mean())


def vote(labels: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Return the commonest label of each row's neighbours; a tie goes to the nearest voter."""
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    voted = codes[neighbours]
    if voted.shape[1] == 1:
        return names[voted[:, 0]]
    counts = np.zeros((len(voted), len(names)), dtype=np.int64)
    rows = np.arange(len(voted))
    for column in voted.T:
        counts[rows, column] += 1
    support = np.take_along_axis(counts, voted, axis=1)
    return names[voted[rows, support.argmax(axis=1)]]  # argmax takes the first: the nearest


def transfer(
    reference: np.ndarray,
    reference_labels: np.ndarray,
    query: np.ndarray,
    query_labels: np.ndarray,
    *,
    k: int = 1,
    seed: int = 0,
) -> Transferred:
    """Give each query cell the label of its nearest reference cells; unknown labels sit out."""
    left, right = is_known(reference_labels), is_known(query_labels)
    if not left.any() or not right.any():
        msg = "one of the two modalities has no labelled cell"
        raise DataError(msg)
    labels = np.asarray(reference_labels, dtype=object)[left].astype(str)
    true = np.asarray(query_labels, dtype=object)[right].astype(str)
    indices, _ = nearest(query[right], reference[left], min(k, int(left.sum())), seed=seed)
    names, counts = np.unique(labels, return_counts=True)
    chance = float((true == names[counts.argmax()]).mean())
    return Transferred(
        true=true,
        given=vote(labels, indices),
        chance=chance,
        absent=float((~np.isin(true, names)).mean()),
    )


class LabelTransfer:
    """Accuracy of label transfer between each two modalities, both directions, and per type.

    Parameters
    ----------
    k
        Voters of the k-NN form; the 1-NN form is always given too.
    max_queries
        With more query cells, this many are drawn.
    """

    needs = ("labels",)
    metrics = ("label_transfer", "label_transfer_knn")

    def __init__(self, *, k: int = 15, max_queries: int = 20_000) -> None:
        if k < 2:
            msg = f"k={k!r} is too small for a vote. Give at least 2; 1-NN is given anyway."
            raise DataError(msg)
        self.k, self.max_queries = k, max_queries

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return for 1-NN, then k-NN: the whole, each direction, each type (1-NN)."""
        one, note = self._all(data, 1)
        many, _ = self._all(data, self.k)
        fixed = {"higher_is_better": True, "best": 1.0}
        scores = _scores("label_transfer", one, note, fixed)
        scores += _per_type("label_transfer", one, fixed)
        voters = "; ".join(part for part in (f"{self.k} voters", note) if part)
        return scores + _scores("label_transfer_knn", many, voters, fixed)

    def _all(self, data: MetricInput, k: int) -> tuple[dict[str, Transferred], str]:
        labels = data.labels or {}
        modalities = sorted(m for m in data.embeddings if m in labels)
        found, note = {}, ""
        rng = np.random.default_rng(data.seed)
        for source, target in _speaking_alike(modalities, labels):
            rows = np.arange(len(data.embeddings[target]))
            if len(rows) > self.max_queries:
                rows = np.sort(rng.choice(rows, self.max_queries, replace=False))
                note = f"at most {self.max_queries} cells asked per direction, drawn at random"
            found[f"{source}->{target}"] = transfer(
                data.embeddings[source],
                labels[source],
                data.embeddings[target][rows],
                np.asarray(labels[target], dtype=object)[rows],
                k=k,
                seed=data.seed,
            )
        return found, note


def _speaking_alike(
    modalities: Sequence[str], labels: Mapping[str, np.ndarray]
) -> list[tuple[str, str]]:
    """Return the directions whose two sides have a type in common; none is an error.

    Where types are named differently every transfer would count as wrong, however good it is.
    """
    types = {m: names for m in modalities if (names := _types(labels[m]))}
    if len(types) < 2:
        msg = "labels are known in fewer than two modalities"
        raise DataError(msg)
    pairs = [(a, b) for a in types for b in types if a != b and types[a] & types[b]]
    if not pairs:
        a, b = list(types)[:2]
        msg = (
            f"the modalities share no type: {a!r} has {min(types[a])!r}, {b!r} has "
            f"{min(types[b])!r}. Name the types alike to score the transfer"
        )
        raise DataError(msg)
    return pairs


def _types(labels: np.ndarray) -> set[str]:
    return {str(name) for name in np.asarray(labels, dtype=object)[is_known(labels)]}


def _scores(
    metric: str, found: dict[str, Transferred], note: str, fixed: Mapping[str, float]
) -> list[Score]:
    every = list(found.values())
    values = [("", float(np.mean([t.accuracy for t in every])), every)]
    values += [(group, t.accuracy, [t]) for group, t in found.items()]
    return [
        Score(
            metric=metric,
            value=float(value),
            group=group,
            chance=float(np.mean([t.chance for t in asked])),
            note="; ".join(part for part in (note, _ceiling(asked)) if part),
            **fixed,  # type: ignore[arg-type]
        )
        for group, value, asked in values
    ]


def _ceiling(asked: Sequence[Transferred]) -> str:
    """Say how high the score can come where one side lacks types of the other."""
    absent = float(np.mean([t.absent for t in asked]))
    return f"{1 - absent:.3f} at most: the other side lacks some types" if absent else ""


def _per_type(
    metric: str, found: dict[str, Transferred], fixed: Mapping[str, float]
) -> list[Score]:
    true = np.concatenate([t.true for t in found.values()])
    hit = np.concatenate([t.true == t.given for t in found.values()])
    return [
        Score(
            metric=metric,
            value=float(hit[true == name].mean()),
            group=f"type:{name}",
            note=f"{int((true == name).sum())} cells asked",
            **fixed,  # type: ignore[arg-type]
        )
        for name in np.unique(true)
    ]
