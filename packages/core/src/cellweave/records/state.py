"""What a fitted component needs to be itself again: JSON parameters and named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.records._files import load_state_folder, save_state_folder
from cellweave.records.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ComponentState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentState:
    """Hold the state of a fitted tokenizer, integrator or task.

    On disk it is a folder of ``config.json``, ``arrays.safetensors`` and ``MANIFEST.json``:
    no pickle, nothing that can run.

    Parameters
    ----------
    component
        Registry name of the component that can take the state back.
    parameters
        The constructor's arguments, as JSON values.
    arrays
        Numeric arrays by name.
    extra
        Further JSON values (vocabularies, feature names, schedules).
    provenance
        What made it.
    """

    component: str
    parameters: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance | None = None

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically, with a manifest."""
        config = {
            "component": self.component,
            "parameters": dict(self.parameters),
            "extra": dict(self.extra),
            "provenance": self.provenance.to_dict() if self.provenance else None,
        }
        save_state_folder(folder, config=config, arrays=dict(self.arrays))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what :meth:`save` wrote; every digest is checked."""
        config, arrays = load_state_folder(folder)
        provenance = config.pop("provenance")
        return cls(
            **config,
            arrays=arrays,
            provenance=Provenance.from_dict(provenance) if provenance else None,
        )
