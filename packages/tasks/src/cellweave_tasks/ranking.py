"""Scores of a ranking against what is true: areas under curves, and the first of the list.

Ties count as drawn by chance: a constant score has an AUROC of 0.5, and its early precision is the
share of what is true.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from cellweave.records import Score

__all__ = ["binary_scores", "early_precision", "win_shares"]


def binary_scores(
    truth: np.ndarray, values: np.ndarray, *, method: str, seed: int | None, group: str = ""
) -> list[Score]:
    """Return AUROC, AUPRC, AUPRC over chance, early precision over chance.

    Early precision is that of the first :math:`k`, with :math:`k` the number of what is true; both
    ratios are to the share of what is true (BEELINE, Pratapa et al. 2020).
    """
    share = float(truth.mean())
    area = float(average_precision_score(truth, values))
    early = early_precision(truth, values)
    found = {
        "auroc": (float(roc_auc_score(truth, values)), 1.0, 0.5),
        "auprc": (area, 1.0, share),
        "auprc_ratio": (area / share, 1 / share, 1.0),
        "early_precision_ratio": (early / share, 1 / share, 1.0),
    }
    return [
        Score(metric=m, value=v, method=method, group=group, best=best, chance=chance, seed=seed)
        for m, (v, best, chance) in found.items()
    ]


def early_precision(truth: np.ndarray, values: np.ndarray) -> float:
    """Return the share of true among the first as many as are true; ties by expectation."""
    k = int(truth.sum())
    cut = np.partition(values, len(values) - k)[len(values) - k]
    above, tied = values > cut, values == cut
    room = k - int(above.sum())
    return float((truth[above].sum() + room * truth[tied].mean()) / k)


def win_shares(truth: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each true entry the share of false ones below it; their mean is the AUROC."""
    ranks = rankdata(values)
    among = rankdata(values[truth])
    return np.asarray((ranks[truth] - among) / (~truth).sum())
