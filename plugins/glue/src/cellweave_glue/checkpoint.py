"""Keep a running fit on disk so that a killed one goes on where it stood, to the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import StateMismatchError
from cellweave.records import ComponentState

if TYPE_CHECKING:
    from cellweave_glue.graph import GuidanceGraph
    from cellweave_glue.inputs import ModalityInput

__all__ = ["Checkpoint", "fingerprint"]

_COMPONENT = "glue.checkpoint"


class Checkpoint:
    """A folder that holds the state after the last finished epoch, or nothing without a folder.

    Parameters
    ----------
    folder
        Where; ``None`` keeps nothing.
    identity
        Digest of data and settings: a checkpoint of other data is refused.
    """

    def __init__(self, folder: str | Path | None, *, identity: str) -> None:
        self._folder = None if folder is None else Path(folder)
        self._identity = identity

    def write(self, arrays: Mapping[str, np.ndarray], extra: Mapping[str, Any]) -> None:
        """Replace what is kept."""
        if self._folder is None:
            return
        state = ComponentState(
            component=_COMPONENT,
            parameters={"identity": self._identity},
            arrays=arrays,
            extra=extra,
        )
        state.save(self._folder)

    def read(self) -> ComponentState | None:
        """Return what is kept, or ``None`` when there is nothing."""
        if self._folder is None or not self._folder.exists():
            return None
        state = ComponentState.load(self._folder)
        found = (state.component, state.parameters.get("identity"))
        if found != (_COMPONENT, self._identity):
            msg = (
                f"The checkpoint in {str(self._folder)!r} is of another fit: its data or settings "
                "differ from these. Give another folder, or remove it to start anew."
            )
            raise StateMismatchError(msg)
        return state


def fingerprint(
    data: Mapping[str, ModalityInput], graph: GuidanceGraph, settings: Mapping[str, Any]
) -> str:
    """Return the sha256 of everything that decides a fit."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in graph.modalities:
        digest.update(digest_of(data[name]).encode())
    for array in (graph.sources, graph.targets, graph.weights, graph.signs):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def digest_of(data: ModalityInput) -> str:
    """Return the sha256 of one modality's cells, features and values."""
    digest = hashlib.sha256(f"{data.name} {data.likelihood}".encode())
    for names in (data.obs_names, data.features):
        digest.update("\n".join(names.tolist()).encode())
    values = data.values
    arrays = (data.representation, values.indptr, values.indices, values.data)
    for array in (*arrays, data.batch, data.label):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
