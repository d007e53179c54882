"""What a fitted annotator says of cells, and how that is scored: known types, and unknown ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellweave.records import Score
from cellweave_tasks.classification import classification_scores, novelty_auroc
from cellweave_tasks.classifiers import Classifier
from cellweave_tasks.novelty import Limits

if TYPE_CHECKING:
    from cellweave_tasks.ontology import Ontology

__all__ = ["Said", "Trained", "said_of", "scores_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One classifier with the limits above which a cell is called unknown."""

    classifier: Classifier
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a classifier says about cells."""

    label: np.ndarray
    confidence: np.ndarray
    novelty: np.ndarray
    unknown: np.ndarray
    probabilities: np.ndarray


def said_of(trained: Trained, features: np.ndarray, *, widened: bool) -> Said:
    """Return what a classifier says of cells; ``widened`` allows for another technology."""
    probabilities = trained.classifier.probabilities(features)
    best = probabilities.argmax(axis=1)
    novelty = trained.classifier.novelty(features)
    return Said(
        label=trained.classifier.classes[best].astype(str),
        confidence=probabilities[np.arange(len(best)), best],
        novelty=novelty,
        unknown=novelty > trained.limits.of(novelty, best, widened=widened),
        probabilities=probabilities,
    )


def scores_of(
    said: Said,
    truth: np.ndarray,
    classes: np.ndarray,
    *,
    method: str,
    seed: int,
    ontology: Ontology | None,
    ids: Mapping[str, str],
) -> list[Score]:
    """Score cells of known types, then how well others are told from them."""
    is_novel = ~np.isin(truth, classes)
    items: list[Score] = []
    if not is_novel.all():
        known = ~is_novel
        items = classification_scores(
            truth[known],
            said.label[known],
            said.confidence[known],
            method=method,
            seed=seed,
            ontology=ontology,
            ids=ids,
        )
        items.append(
            Score(
                metric="false_unknown",
                value=float(said.unknown[known].mean()),
                method=method,
                higher_is_better=False,
                best=0.0,
                seed=seed,
                note="share of cells of known types that are called unknown",
            )
        )
    return [*items, *_scores_of_novel(said, is_novel, method, seed)]


def _scores_of_novel(said: Said, is_novel: np.ndarray, method: str, seed: int) -> list[Score]:
    auroc = novelty_auroc(is_novel, said.novelty)
    note = "" if auroc is not None else "no type of the test is unknown to training"
    items = [
        Score(
            metric="novel_auroc",
            value=auroc,
            method=method,
            best=1.0,
            chance=0.5,
            seed=seed,
            note=note,
        )
    ]
    if is_novel.any():
        caught = float(said.unknown[is_novel].mean())
        items.append(
            Score(metric="unknown_recall", value=caught, method=method, best=1.0, seed=seed)
        )
    return items
