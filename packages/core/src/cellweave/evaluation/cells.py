"""From the modalities of a :class:`MetricInput` to the cells that a metric looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.labels import is_known

__all__ = ["JointCells", "PairedCells", "joint", "modality_pairs", "paired"]

FEWEST_PAIRS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCells:
    """Hold the cells of all modalities one below the other.

    ``modality`` and ``labels`` are codes from 0; ``names`` are the label names of the codes.
    """

    points: np.ndarray
    modality: np.ndarray
    modalities: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCells:
    """Hold the cells that two modalities share, in one order, with what the reader must know."""

    source: str
    target: str
    x: np.ndarray
    y: np.ndarray
    note: str


def modality_pairs(data: MetricInput) -> Iterator[tuple[str, str]]:
    """Give each two modalities once, in the order of names (not of the input)."""
    yield from combinations(sorted(data.embeddings), 2)


def paired(data: MetricInput, source: str, target: str) -> PairedCells:
    """Select the cells with equal pairing ids; ids that are missing pair with nothing."""
    import pandas as pd

    if data.pairing is None:
        msg = "which cells are the same is not known"
        raise DataError(msg)
    left, right = (np.asarray(data.pairing[m], dtype=object) for m in (source, target))
    known_left, known_right = is_known(left), is_known(right)
    for modality, ids in ((source, left[known_left]), (target, right[known_right])):
        index = pd.Index(ids)
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            msg = (
                f"Pairing id {twice!r} occurs more than once in {modality!r}. Expected one cell "
                "per id. Give a key whose values are unique in each modality."
            )
            raise DataError(msg)
    rows_right = np.flatnonzero(known_right)
    found = pd.Index(right[known_right]).get_indexer(left)
    rows = np.flatnonzero((found >= 0) & known_left)
    if len(rows) < FEWEST_PAIRS:
        msg = f"{source} and {target} share {len(rows)} cells; at least {FEWEST_PAIRS} are needed"
        raise DataError(msg)
    is_all = len(rows) == len(left) == len(right)
    return PairedCells(
        source=source,
        target=target,
        x=data.embeddings[source][rows],
        y=data.embeddings[target][rows_right[found[rows]]],
        note="" if is_all else f"over the {len(rows)} cells that {source} and {target} share",
    )


def joint(
    data: MetricInput, *, max_cells: int, with_labels: bool = False, per_modality: bool = False
) -> JointCells:
    """Stack the modalities, at most ``max_cells`` cells drawn at random in proportion.

    With ``with_labels`` cells of unknown type are left out, and the note counts them. With
    ``per_modality`` every modality gives the same number of cells.
    """
    import pandas as pd

    modalities = tuple(sorted(data.embeddings))
    labels = (data.labels if with_labels else None) or {}
    if with_labels and (unlabelled := [m for m in modalities if m not in labels]):
        msg = (
            f"cell types of {unlabelled[0]!r} are not known; give `labels` for "
            f"{', '.join(modalities)}"
        )
        raise DataError(msg)
    kept = {m: _usable(data, m, labels.get(m), with_labels) for m in modalities}
    n_all = sum(len(data.embeddings[m]) for m in modalities)
    rows, drawn = _draw(kept, max_cells, data.seed, per_modality=per_modality)
    codes = np.concatenate([np.full(len(rows[m]), i) for i, m in enumerate(modalities)])
    points = np.concatenate([data.embeddings[m][rows[m]] for m in modalities])
    if with_labels:
        values = np.concatenate([np.asarray(labels[m], dtype=object)[rows[m]] for m in modalities])
        label_codes, names = pd.factorize(values.astype(str), sort=True)
    else:
        label_codes, names = np.zeros(len(points), dtype=np.int64), np.array([""])
    n_unknown = n_all - sum(len(k) for k in kept.values())
    notes = [f"{n_unknown} cells without a known type left out"] if n_unknown else []
    notes += [f"on {len(points)} of {n_all} cells, drawn at random"] if drawn else []
    return JointCells(
        points=points,
        modality=codes,
        modalities=modalities,
        labels=label_codes,
        names=tuple(str(n) for n in names),
        note="; ".join(notes),
    )


def _usable(
    data: MetricInput, modality: str, labels: np.ndarray | None, with_labels: bool
) -> np.ndarray:
    n = len(data.embeddings[modality])
    if not with_labels:
        return np.arange(n)
    if labels is None:
        return np.arange(0)
    return np.flatnonzero(is_known(labels))


def _draw(
    kept: Mapping[str, np.ndarray], max_cells: int, seed: int, *, per_modality: bool
) -> tuple[dict[str, np.ndarray], bool]:
    rng = np.random.default_rng(seed)
    total = sum(len(rows) for rows in kept.values())
    if per_modality:
        smallest = min(len(rows) for rows in kept.values())
        limit = min(smallest, max_cells // len(kept))
        sizes = dict.fromkeys(kept, limit)
        drawn = limit < smallest
    else:
        share = min(1.0, max_cells / max(total, 1))
        sizes = {m: min(len(rows), int(np.ceil(share * len(rows)))) for m, rows in kept.items()}
        drawn = share < 1.0
    rows = {
        m: np.sort(rng.choice(all_rows, sizes[m], replace=False))
        if sizes[m] < len(all_rows)
        else all_rows
        for m, all_rows in kept.items()
    }
    return rows, drawn
