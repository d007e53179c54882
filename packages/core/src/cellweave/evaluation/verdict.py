"""From numbers to words: did it work, in one colour, one sentence and a few more.

``integration_score`` is the geometric mean of three families, each the mean of its measures
rescaled so that chance is 0 and perfect 1 (measures without a known chance count as they are).
Geometric, so that mixing alone, which noise does best, earns nothing:

    cells   FOSCTTM                            the right cells meet
    types   label transfer, ARI, NMI, MAP, ASW by type, cLISI
    mixing  Seurat alignment, entropy mixing, iLISI, ASW by modality, graph connectivity
    links   agreement of linked features; counts only where neither cells nor types are known

The colour does not come from that number: a failure in one family must not hide behind another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cellweave.records import Score

__all__ = ["FAMILIES", "GLOSSARY", "rescaled", "summarise"]

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "cells": ("foscttm",),
    "types": ("label_transfer", "ari", "nmi", "map", "asw_type", "clisi_type"),
    "mixing": (
        "seurat_alignment",
        "entropy_mixing",
        "ilisi_modality",
        "asw_modality",
        "graph_connectivity",
    ),
    "links": ("linked_agreement",),
}

GLOSSARY: Mapping[str, tuple[str, str]] = {
    "foscttm": ("FOSCTTM", "other cells closer than a cell's true partner"),
    "foscttm_cosine": ("FOSCTTM, cosine", "the same with angles instead of distances"),
    "matching_accuracy": ("Matching accuracy", "cells whose nearest cell is their true partner"),
    "partner_in_top_10": ("Partner in top 10", "cells whose partner is among the 10 nearest"),
    "partner_rank": ("Partner rank", "median rank of the true partner, 1 is first"),
    "label_transfer": ("Label transfer, 1-NN", "cells whose nearest cell has the same type"),
    "label_transfer_knn": ("Label transfer, k-NN", "the same by vote of several cells"),
    "ari": ("ARI", "clusters agree with cell types"),
    "nmi": ("NMI", "clusters tell cell types"),
    "asw_type": ("ASW by type", "cell types stand apart"),
    "asw_modality": ("ASW by modality", "modalities mix within each type"),
    "asw_batch": ("ASW by batch", "batches mix within each type"),
    "map": ("MAP", "near neighbours are of one type"),
    "graph_connectivity": ("Graph connectivity", "each type hangs together"),
    "linked_agreement": ("Linked agreement", "linked features of cells that lie together agree"),
    "neighbour_conservation": ("Neighbour conservation", "neighbours kept from before"),
    "seurat_alignment": ("Seurat alignment", "modalities mix"),
    "entropy_mixing": ("Entropy mixing", "modalities mix around each cell"),
    "ilisi_modality": ("iLISI by modality", "modalities mix around each cell"),
    "clisi_type": ("cLISI by type", "neighbourhoods hold one type"),
    "ilisi_batch": ("iLISI by batch", "batches mix around each cell"),
    "kbet_modality": ("kBET by modality", "neighbourhoods hold the expected modalities"),
    "kbet_batch": ("kBET by batch", "neighbourhoods hold the expected batches"),
}

_DISAGREE = 0.2
_LEVELS = ("poor", "fair", "good")
_HEADLINES = {
    "good": "It worked: cells of one kind meet across modalities.",
    "fair": "It worked in part: look at the weak points below before you build on it.",
    "poor": "It did not work: do not use this embedding to compare modalities.",
    "unknown": "Cannot tell: without shared cell types or known pairs only mixing and linked "
    "features can be measured, and wrong cells can mix well.",
}


def rescaled(score: Score) -> float | None:
    """Return the score with chance at 0 and perfect at 1, clipped; ``None`` without a value."""
    if score.value is None or score.best is None:
        return None
    start = score.chance if score.chance is not None else 0.0
    if score.best == start:
        return None
    return float(np.clip((score.value - start) / (score.best - start), 0.0, 1.0))


def summarise(scores: Iterable[Score]) -> dict[str, Any]:
    """Return ``integration_score``, its families, ``verdict``, ``headline`` and ``sentences``."""
    whole = {s.metric: s for s in scores if not s.group}
    families = {}
    for family, metrics in FAMILIES.items():
        values = [v for m in metrics if m in whole and (v := rescaled(whole[m])) is not None]
        if values:
            families[family] = float(np.mean(values))
    knows = any(_has(whole, m) for m in ("foscttm", "label_transfer"))
    if {"cells", "types"} & set(families):
        families.pop("links", None)
    judged = _judge(whole)
    levels = [level for level, _ in judged]
    failed = not knows and families.get("links", 1.0) < _DISAGREE
    verdict = _LEVELS[min(levels)] if knows else "poor" if failed else "unknown"
    return {
        "integration_score": float(np.prod(list(families.values())) ** (1 / len(families)))
        if families
        else None,
        "families": families,
        "verdict": verdict,
        "headline": _HEADLINES[verdict],
        "sentences": [text for _, text in judged],
    }


def _judge(whole: Mapping[str, Score]) -> list[tuple[int, str]]:
    """Return a level (0 poor, 1 fair, 2 good) and a sentence for each thing that is known."""
    found = [_judge_types(whole), _judge_pairs(whole), _judge_mixing(whole), _judge_links(whole)]
    return [item for item in found if item is not None]


def _has(whole: Mapping[str, Score], metric: str) -> bool:
    return metric in whole and whole[metric].value is not None


def _judge_types(whole: Mapping[str, Score]) -> tuple[int, str] | None:
    if not _has(whole, "label_transfer"):
        return None
    score = whole["label_transfer"]
    value, chance = score.value or 0.0, score.chance or 0.0
    level = _level(rescaled(score) or 0.0, fair=0.4, good=0.75)
    words = ("Types are confused", "Types mostly agree", "Types agree")[level]
    text = (
        f"{words}: {_of_100(value)} of 100 cells have a cell of their own type nearest in the "
        f"other modality (guessing the commonest type: {_of_100(chance)})."
    )
    return level, text


def _judge_pairs(whole: Mapping[str, Score]) -> tuple[int, str] | None:
    if not _has(whole, "foscttm"):
        return None
    value = whole["foscttm"].value or 0.0
    level = _level(1 - 2 * value, fair=0.3, good=0.7)
    words = ("Single cells do not find their partners", "Single cells come near their partners",
             "Single cells find their partners")[level]  # fmt: skip
    text = (
        f"{words}: on average {_of_100(value)} of 100 other cells are closer than a cell's own "
        "partner (chance: 50)."
    )
    # Right types with random cells inside them are of use still: no red for pairs alone.
    return (max(level, 1) if _has(whole, "label_transfer") and value < 0.45 else level), text


def _judge_mixing(whole: Mapping[str, Score]) -> tuple[int, str] | None:
    measures = ("seurat_alignment", "entropy_mixing")
    values = [v for m in measures if _has(whole, m) and (v := whole[m].value) is not None]
    if not values:
        return None
    value = float(np.mean(values))
    level = _level(value, fair=0.25, good=0.6)
    words = ("Modalities stay apart", "Modalities overlap in part", "Modalities mix")[level]
    text = (
        f"{words}: {_of_100(value)} of 100 on the mean of two mixing scores (100 is full mixing)."
    )
    # Offset clouds with the right nearest cells are of use still: no red for mixing alone.
    return (max(level, 1) if _has(whole, "label_transfer") else level), text


def _judge_links(whole: Mapping[str, Score]) -> tuple[int, str] | None:
    if not _has(whole, "linked_agreement"):
        return None
    value = whole["linked_agreement"].value or 0.0
    level = _level(value, fair=_DISAGREE, good=0.5)
    words = ("Linked features disagree", "Linked features agree in part", "Linked features agree")
    text = f"{words[level]}: {value:.2f} on the median cell (1 alike, 0 chance)."
    # Features can be noisy while cells are right: where more is known, no verdict rests on them.
    return (2 if _has(whole, "label_transfer") or _has(whole, "foscttm") else level), text


def _level(value: float, *, fair: float, good: float) -> int:
    return int(value >= fair) + int(value >= good)


def _of_100(value: float) -> str:
    text = f"{100 * value:.0f}"
    return text if text not in ("0", "100") or value in (0.0, 1.0) else f"{100 * value:.1f}"
