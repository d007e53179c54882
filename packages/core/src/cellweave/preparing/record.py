"""Write down the steps of a preparation while they happen."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cellweave.config.arguments import coerce_arguments
from cellweave.records import Preparation, PreparationStep, Prepared, Provenance

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Recipe", "settings_from"]

SettingsT = TypeVar("SettingsT")


def settings_from(
    kind: type[SettingsT], settings: Mapping[str, Any] | None, *, name: str
) -> SettingsT:
    """Build the settings record ``kind``; unknown or misfitting settings are told all at once."""
    return kind(**coerce_arguments(kind, dict(settings or {}), name=name))


@dataclass(slots=True)
class Recipe:
    """Collect the steps of one preparation, then close it into records.

    Parameters
    ----------
    modality
        Registry name of the modality.
    distribution
        Distribution whose version goes into the provenance.
    settings
        The settings record (a dataclass) that governs the steps.
    seed
        The seed.
    libraries
        Distributions that decide numbers; their versions are recorded.
    """

    modality: str
    distribution: str
    settings: Any
    seed: int
    libraries: tuple[str, ...] = ("numpy", "scipy", "scikit-learn")
    steps: list[PreparationStep] = field(default_factory=list)

    def add(
        self, name: str, *, outcome: Mapping[str, Any] | None = None, **parameters: Any
    ) -> None:
        """Note a step with its parameters and its outcome."""
        step = PreparationStep(name=name, parameters=parameters, outcome=dict(outcome or {}))
        self.steps.append(step)

    def close(self, adata: AnnData) -> Prepared:
        """Write ``uns["preparation"]`` into our own ``adata`` and return it with the record."""
        provenance = Provenance(
            component=self.modality,
            version=_version(self.distribution),
            parameters=asdict(self.settings),
            seed=self.seed,
            versions={name: _version(name) for name in self.libraries},
        )
        preparation = Preparation(
            modality=self.modality, steps=tuple(self.steps), provenance=provenance
        )
        adata.uns["preparation"] = preparation.to_json()
        return Prepared(adata=adata, preparation=preparation)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
