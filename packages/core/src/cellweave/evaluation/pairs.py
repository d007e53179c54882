"""Is a cell near to itself in the other modality: FOSCTTM, barcode rank, matching accuracy.

FOSCTTM (Liu et al. 2019, fraction of samples closer than the true match), for paired rows:

    x→y: mean_i mean_j [d(x_i, y_j) < d(x_i, y_i)]     y→x likewise     score: mean of the two

0 is perfect, 0.5 chance. Ties and the own pair do not count. The rank of the true partner is one
plus the cells that are closer; matching accuracy is the share of cells whose partner ranks first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.evaluation.cells import PairedCells, modality_pairs, paired
from cellweave.kernels.distances import closer_counts
from cellweave.records import Score

__all__ = ["Foscttm", "PartnerRank", "foscttm", "partner_ranks"]


def foscttm(x: np.ndarray, y: np.ndarray, *, metric: str = "euclidean") -> tuple[float, float]:
    """Return FOSCTTM from ``x`` to ``y`` and from ``y`` to ``x``; rows are pairs."""
    forward, backward = closer_counts(x, y, metric=metric)
    return float(forward.mean() / len(x)), float(backward.mean() / len(x))


def partner_ranks(
    x: np.ndarray, y: np.ndarray, *, metric: str = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of each cell's partner among all cells of the other side, from 1."""
    forward, backward = closer_counts(x, y, metric=metric)
    return forward + 1, backward + 1


_PERFECT_IS_ZERO = {"higher_is_better": False, "best": 0.0, "chance": 0.5}


class Foscttm:
    """FOSCTTM, Euclidean and cosine, of each two modalities in both directions.

    Parameters
    ----------
    max_queries
        With more pairs, this many are drawn to count for; all stay competitors.
    """

    needs = ("pairing",)
    metrics = ("foscttm", "foscttm_cosine")

    def __init__(self, *, max_queries: int = 20_000) -> None:
        self.max_queries = _checked(max_queries)

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean over directions first, then each direction."""
        scores = []
        for name, metric in zip(self.metrics, ("euclidean", "cosine")):
            groups = {
                group: (float(counts.mean() / n), note)
                for group, counts, n, note in _counts(data, metric, self.max_queries)
            }
            scores += _whole_then_groups(name, groups, _PERFECT_IS_ZERO)
        return scores


class PartnerRank:
    """Matching accuracy and the rank of the true partner, Euclidean, in both directions.

    Parameters
    ----------
    max_queries
        With more pairs, this many are drawn to count for; all stay competitors.
    """

    needs = ("pairing",)
    metrics = ("matching_accuracy", "partner_in_top_10", "partner_rank")

    def __init__(self, *, max_queries: int = 20_000) -> None:
        self.max_queries = _checked(max_queries)

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return each measure over all directions first, then by direction."""
        found = list(_counts(data, "euclidean", self.max_queries))
        n = float(np.mean([n for _, _, n, _ in found]))
        first = {g: (float((c == 0).mean()), note) for g, c, _, note in found}
        top = {g: (float((c < 10).mean()), note) for g, c, _, note in found}
        rank = {g: (float(np.median(c + 1)), _median_note(note)) for g, c, _, note in found}
        share = {"higher_is_better": True, "best": 1.0}
        lower = {"higher_is_better": False, "best": 1.0, "chance": (n + 1) / 2}
        return [
            *_whole_then_groups(self.metrics[0], first, {**share, "chance": 1 / n}),
            *_whole_then_groups(self.metrics[1], top, {**share, "chance": min(1.0, 10 / n)}),
            *_whole_then_groups(self.metrics[2], rank, lower),
        ]


def _checked(max_queries: int) -> int:
    if max_queries < 1:
        msg = f"max_queries={max_queries!r} is too small. Give at least 1."
        raise DataError(msg)
    return max_queries


def _median_note(note: str) -> str:
    return "; ".join(part for part in ("median", note) if part)


def _counts(
    data: MetricInput, metric: str, max_queries: int
) -> Iterator[tuple[str, np.ndarray, int, str]]:
    """Give direction, counts of closer cells, number of competitors and note."""
    n_pairs, problems = 0, []
    for source, target in modality_pairs(data):
        try:
            cells = paired(data, source, target)
        except DataError as error:
            if data.pairing is None or "more than once" in str(error):
                raise
            problems.append(str(error))
            continue
        n_pairs += 1
        queries, note = _queries(cells, max_queries, data.seed)
        forward, backward = closer_counts(cells.x, cells.y, metric=metric, queries=queries)
        yield f"{source}->{target}", forward, len(cells.x), note
        yield f"{target}->{source}", backward, len(cells.x), note
    if not n_pairs:
        raise DataError("; ".join(problems) or "there is one modality only")


def _queries(cells: PairedCells, limit: int, seed: int) -> tuple[np.ndarray | None, str]:
    n = len(cells.x)
    if n <= limit:
        return None, cells.note
    rows = np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))
    drawn = f"counted for {limit} of {n} cells, drawn at random, against all"
    return rows, "; ".join(part for part in (cells.note, drawn) if part)


def _whole_then_groups(
    metric: str, groups: dict[str, tuple[float, str]], fixed: Mapping[str, float]
) -> list[Score]:
    whole = float(np.mean([value for value, _ in groups.values()]))
    notes = "; ".join(sorted({note for _, note in groups.values() if note}))
    values = [("", whole, notes)] + [(g, v, note) for g, (v, note) in groups.items()]
    return [
        Score(metric=metric, value=v, group=g, note=note, **fixed)  # type: ignore[arg-type]
        for g, v, note in values
    ]
