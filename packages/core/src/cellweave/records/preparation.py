"""How a modality was prepared: the steps, in order, with their settings and what they did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cellweave.records.provenance import Provenance

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Preparation", "PreparationStep", "Prepared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationStep:
    """One step: its name, its settings, and counts of what it kept, lost or merged."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Say what was done to one modality, in which order; enough to do it again."""

    modality: str
    steps: tuple[PreparationStep, ...]
    provenance: Provenance

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "modality": self.modality,
            "steps": [asdict(s) for s in self.steps],
            "provenance": self.provenance.to_dict(),
        }

    def to_json(self) -> str:
        """Return JSON text with sorted keys, as kept in ``uns["preparation"]``."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Preparation:
        """Rebuild from :meth:`to_json`."""
        values = json.loads(text)
        return cls(
            modality=values["modality"],
            steps=tuple(PreparationStep(**step) for step in values["steps"]),
            provenance=Provenance.from_dict(values["provenance"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Hold prepared data (a new object) with the record of how it was made."""

    adata: AnnData
    preparation: Preparation
