"""The contract of a task: what a biologist asks, answered beside its baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Prediction, Scores

__all__ = ["Task"]


@runtime_checkable
class Task(Protocol):
    """Learn from labelled cells, predict for others, and be scored honestly.

    The constructor takes keyword arguments only: ``use_rep`` (the ``obsm`` key, ``None`` for
    ``X``), the ``obs`` keys it needs, ``seed``.
    """

    def fit(self, adata: AnnData) -> Self:
        """Learn from ``adata`` and return ``self``; ``adata`` is not changed."""
        ...

    def predict(self, adata: AnnData) -> Prediction:
        """Predict for every cell of ``adata``, in input order."""
        ...

    def evaluate(self, adata: AnnData) -> Scores:
        """Score the predictions on labelled ``adata`` beside the task's baselines.

        Baselines are never optional: each score of the task stands beside the same score of
        every baseline (``Score.method``). Splits that leak are refused.
        """
        ...
