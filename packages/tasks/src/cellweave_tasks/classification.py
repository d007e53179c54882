"""Scores of a classification: accuracy in its forms, calibration, novelty, distance in a tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from cellweave.records import Score

if TYPE_CHECKING:
    from cellweave_tasks.ontology import Ontology

__all__ = ["classification_scores", "expected_calibration_error", "novelty_auroc"]

_BINS = 10


def classification_scores(
    truth: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray | None,
    *,
    method: str,
    seed: int | None,
    ontology: Ontology | None = None,
    ids: Mapping[str, str] | None = None,
) -> list[Score]:
    """Score predictions on cells of known type.

    Parameters
    ----------
    truth, predicted
        Labels.
    confidence
        Probability of the predicted label, for calibration.
    method
        What is scored.
    seed
        Of the run.
    ontology, ids
        The Cell Ontology and label to its id, for LCAD.
    """
    recall, precision = _per_type(truth, predicted)
    f1 = {t: _harmonic(recall[t], precision[t]) for t in recall}

    def score(metric: str, value: float | None, **more: object) -> Score:
        return Score(metric=metric, value=value, method=method, seed=seed, **more)  # type: ignore[arg-type]

    scores = [
        score("accuracy", float((truth == predicted).mean()), best=1.0),
        score("balanced_accuracy", float(np.mean(list(recall.values()))), best=1.0),
        score("macro_f1", float(np.mean(list(f1.values()))), best=1.0),
    ]
    scores += [score("f1", value, group=t, best=1.0) for t, value in f1.items()]
    if confidence is not None:
        error = expected_calibration_error(truth == predicted, confidence)
        scores.append(score("ece", error, higher_is_better=False, best=0.0))
    if ontology is not None:
        distance = ontology.mean_lca_distance(truth, predicted, ids or {})
        scores.append(
            score(
                "lcad",
                distance,
                higher_is_better=False,
                best=0.0,
                note="mean over misclassified cells; 0 when there are none",
            )
        )
    return scores


def expected_calibration_error(correct: np.ndarray, confidence: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy over ten equal bins."""
    which = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(which, minlength=_BINS)
    hits = np.bincount(which, weights=correct, minlength=_BINS)
    sure = np.bincount(which, weights=confidence, minlength=_BINS)
    return float(np.abs(hits - sure).sum() / max(counts.sum(), 1))


def novelty_auroc(is_novel: np.ndarray, novelty: np.ndarray) -> float | None:
    """Return how well ``novelty`` ranks novel cells above known ones; ``None`` without both."""
    if is_novel.all() or not is_novel.any():
        return None
    return float(roc_auc_score(is_novel, novelty))


def _per_type(
    truth: np.ndarray, predicted: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    recall, precision = {}, {}
    for label in sorted(set(truth.tolist())):
        is_true, is_said = truth == label, predicted == label
        hits = float((is_true & is_said).sum())
        recall[label] = hits / float(is_true.sum())
        precision[label] = hits / float(is_said.sum()) if is_said.any() else 0.0
    return recall, precision


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
