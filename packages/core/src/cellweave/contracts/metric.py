"""The contract of a metric: numbers from an embedding and what is known about its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from cellweave.records import Score

__all__ = ["Metric", "MetricInput"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInput:
    """Hold what a metric may look at.

    Parameters
    ----------
    embeddings
        Modality to ``(n_cells, d)``.
    labels
        Modality to cell types, where known.
    pairing
        Modality to an id per cell; equal ids in two modalities are the same cell.
    batches
        Modality to batch labels, where there are batches.
    before
        Modality to coordinates before integration, for neighbour conservation.
    agreement
        ``"rna->prot"`` to how well each RNA cell's linked features agree with those of the protein
        cells beside it, as :func:`cellweave.integrate` tells.
    seed
        For metrics that sample.
    """

    embeddings: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] | None = None
    pairing: Mapping[str, np.ndarray] | None = None
    batches: Mapping[str, np.ndarray] | None = None
    before: Mapping[str, np.ndarray] = field(default_factory=dict)
    agreement: Mapping[str, np.ndarray] = field(default_factory=dict)
    seed: int = 0


@runtime_checkable
class Metric(Protocol):
    """Compute one measure.

    Attributes
    ----------
    needs
        Fields of :class:`MetricInput` it cannot do without, e.g. ``("pairing",)``.
    """

    needs: tuple[str, ...]

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the score of the whole first, then of groups."""
        ...
