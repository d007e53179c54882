"""What a report looks at: embeddings, types and batches by modality, at most so many cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave.evaluation.gather import column_of
from cellweave.labels import is_known
from cellweave.pl.colours import palette

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import IntegrationResult, Scores

__all__ = ["ShownCells", "shown_cells"]

MOST_SHOWN = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCells:
    """Hold the drawn cells of all modalities one below the other, and all embeddings.

    ``rows`` gives each modality's drawn rows. ``types`` and ``batches`` hold ``None`` where they
    are not known, and are ``None`` where they are known nowhere.
    """

    embeddings: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]
    modality: np.ndarray
    types: np.ndarray | None
    batches: np.ndarray | None
    match_score: np.ndarray | None
    agreement: np.ndarray | None
    label_key: str
    batch_key: str

    @property
    def n_cells(self) -> int:
        """Count all cells, drawn or not."""
        return sum(len(values) for values in self.embeddings.values())

    def colours(self, values: np.ndarray) -> dict[str, str]:
        """Give each name one colour for all pictures of the page; modalities have their own."""
        if values is self.modality:
            return palette(list(self.embeddings), start=5)
        return palette(sorted(set(values.astype(str))))


def shown_cells(
    mdata: MuData,
    result: IntegrationResult | None,
    scores: Scores | None,
    *,
    use_rep: str | None,
    label_key: str | None,
    batch_key: str | None,
) -> ShownCells:
    """Collect what the pictures need; keys that are not given are those of the scores."""
    told: Mapping[str, Any] = scores.provenance.parameters if scores and scores.provenance else {}
    label_key = label_key or told.get("label_key") or "cell_type"
    batch_key = batch_key or told.get("batch_key") or "batch"
    embeddings = _embeddings(mdata, result, use_rep or told.get("use_rep"))
    rows = _rows({m: len(values) for m, values in embeddings.items()})
    found = {m: column_of(mdata, m, label_key) for m in embeddings}
    labels = {m: v for m, v in found.items() if v is not None and is_known(v).any()}
    batches = {m: column_of(mdata, m, batch_key) for m in embeddings}
    return ShownCells(
        embeddings=embeddings,
        labels=labels,
        rows=rows,
        modality=np.concatenate([np.full(len(r), m, dtype=object) for m, r in rows.items()]),
        types=_stacked(found, rows),
        batches=_stacked(batches, rows, at_least=2),
        match_score=_match_scores(result, embeddings, rows),
        agreement=_agreement(result, embeddings, rows),
        label_key=label_key,
        batch_key=batch_key,
    )


def _embeddings(
    mdata: MuData, result: IntegrationResult | None, use_rep: str | None
) -> dict[str, np.ndarray]:
    if result is not None:
        absent = sorted(
            m
            for m, names in result.obs_names.items()
            if m not in mdata.mod or mdata.mod[m].n_obs != len(names)
        )
        if absent:
            msg = (
                f"The result is not of these data: {one_of(absent)} differ in cells or are absent. "
                "Give the data that were integrated."
            )
            raise DataError(msg)
        return {m: np.asarray(result.embeddings[m]) for m in mdata.mod if m in result.embeddings}
    found = {m: np.asarray(a.obsm[use_rep]) for m, a in mdata.mod.items() if use_rep in a.obsm}
    if not found:
        known = {key for a in mdata.mod.values() for key in a.obsm}
        msg = (
            f"There is no embedding to report: obsm[{use_rep!r}] is in no modality."
            f"{closest(str(use_rep), known)} There are: {one_of(known)}. "
            "Give `result`, or `use_rep`."
        )
        raise DataError(msg)
    return found


def _rows(sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    share = min(1.0, MOST_SHOWN / max(sum(sizes.values()), 1))
    rng = np.random.default_rng(0)
    return {
        m: np.arange(n)
        if share == 1.0
        else np.sort(rng.choice(n, max(int(share * n), min(n, 50)), replace=False))
        for m, n in sizes.items()
    }


def _stacked(
    columns: Mapping[str, np.ndarray | None], rows: Mapping[str, np.ndarray], *, at_least: int = 1
) -> np.ndarray | None:
    parts = []
    for modality, at in rows.items():
        column = columns[modality]
        if column is None:
            parts.append(np.full(len(at), "", dtype=object))
        else:
            known = is_known(column)
            parts.append(np.where(known, column.astype(str), "").astype(object)[at])
    values = np.concatenate(parts)
    return values if len(set(values) - {""}) >= at_least else None


def _match_scores(
    result: IntegrationResult | None,
    embeddings: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
) -> np.ndarray | None:
    if result is None or not result.matches:
        return None
    best = {m: np.full(len(values), np.nan) for m, values in embeddings.items()}
    for match in result.matches:
        for modality, at in ((match.source, match.rows), (match.target, match.cols)):
            np.fmax.at(best[modality], at, match.scores)
    return np.concatenate([best[m][at] for m, at in rows.items()])


def _agreement(
    result: IntegrationResult | None,
    embeddings: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
) -> np.ndarray | None:
    """Return each drawn cell's agreement with the modality that it agrees with least."""
    if result is None or not result.agreement:
        return None
    least = {m: np.full(len(values), np.nan) for m, values in embeddings.items()}
    for one in result.agreement:
        np.fmin(least[one.source], one.scores, out=least[one.source])
    return np.concatenate([least[m][at] for m, at in rows.items()])
