"""The contract of an integrator: weave the modalities of a MuData together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from mudata import MuData

    from cellweave.records import (
        ComponentState,
        FeatureLinks,
        IntegrationResult,
        ProgressCallback,
    )

__all__ = ["Estimate", "Integrator", "SavableIntegrator", "TransformingIntegrator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Say what a run will need: seconds on this machine, peak memory in bytes."""

    seconds: float
    peak_bytes: int


@runtime_checkable
class Integrator(Protocol):
    """Put the cells of two or more modalities into one space.

    The constructor takes keyword arguments only, among them ``seed: int = 0`` and, where torch is
    used, ``device: str = "cpu"``; it stores them and does nothing else.

    The modalities need not share a cell; cells of equal name in two modalities are used as pairs
    only by methods that say so and when asked to. The result does not depend on the order of
    modalities in ``mdata`` nor, beyond rounding and random batches, on the order of cells.
    """

    def fit(
        self,
        mdata: MuData,
        links: Sequence[FeatureLinks] = (),
        *,
        progress: ProgressCallback | None = None,
    ) -> Self:
        """Fit on prepared data (see :class:`~cellweave.contracts.Modality`) and return ``self``.

        ``mdata`` is not changed. Data that are not prepared, links that do not fit the features,
        and modalities the method cannot use are refused before any work.
        """
        ...

    def result(self) -> IntegrationResult:
        """Return embeddings of all cells in input order; ``NotFittedError`` before ``fit``."""
        ...

    def estimate(self, mdata: MuData) -> Estimate:
        """Tell beforehand what ``fit`` will need."""
        ...


@runtime_checkable
class SavableIntegrator(Integrator, Protocol):
    """An integrator tagged ``"save"``: its fitted state survives the process."""

    def state(self) -> ComponentState:
        """Return everything ``result`` and ``transform`` need."""
        ...

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild the fitted integrator."""
        ...


@runtime_checkable
class TransformingIntegrator(Integrator, Protocol):
    """An integrator tagged ``"transform"``: new cells join a fitted space."""

    def transform(self, mdata: MuData) -> Mapping[str, np.ndarray]:
        """Return the embedding of new cells by modality, in input order, without refitting."""
        ...
