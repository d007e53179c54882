"""How well a stream is mixed, told without reading it."""

from __future__ import annotations

import numpy as np

from cellweave.streaming.order import BlockOrder

__all__ = ["shuffle_quality"]

_STRATA = 64


def shuffle_quality(
    order: BlockOrder,
    *,
    batch_size: int,
    labels: np.ndarray | None = None,
    n_batches: int = 200,
) -> float:
    """Return the mean entropy of labels within batches over that of truly random batches.

    1 is as good as a random draw, 0 means that every batch holds one label.

    Parameters
    ----------
    order
        The order to judge.
    batch_size
        Cells of a batch.
    labels
        One label a cell; by default the place in the data, cut into 64 strata: the worst case, in
        which the data are sorted by what matters.
    n_batches
        How many batches to look at, spread over the epoch.
    """
    if labels is None:
        codes = np.arange(order.n_cells) * _STRATA // max(order.n_cells, 1)
    else:
        codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    total = max(len(order) // batch_size, 1)
    chosen = np.unique(np.linspace(0, total - 1, min(n_batches, total)).astype(int))
    random = np.random.default_rng(0)
    found, best = [], []
    for batch in chosen:
        cells = order.cells(batch * batch_size, (batch + 1) * batch_size)
        found.append(_entropy(codes[cells]))
        best.append(_entropy(codes[random.choice(order.n_cells, len(cells), replace=False)]))
    return float(np.mean(found)) / max(float(np.mean(best)), 1e-12)


def _entropy(codes: np.ndarray) -> float:
    counts = np.bincount(codes)
    share = counts[counts > 0] / max(len(codes), 1)
    return float(-(share * np.log(share)).sum())
