"""One vector a cell, in the order of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from cellweave.errors import DataError
from cellweave.records._files import load_arrays, save_arrays
from cellweave.records.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

__all__ = ["Embedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Hold the vectors of cells (or features) together with their names.

    Parameters
    ----------
    values
        ``(n, d)`` float32.
    names
        The ``n`` names, in the order of the input.
    provenance
        What made it.
    """

    values: np.ndarray
    names: np.ndarray
    provenance: Provenance

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit."""
        if self.values.ndim != 2 or len(self.names) != len(self.values):
            msg = (
                f"Embedding values have shape {self.values.shape} for {len(self.names)} names. "
                "Expected one row per name."
            )
            raise DataError(msg)

    def write(self, adata: AnnData, *, key_added: str) -> None:
        """Write the vectors to ``adata.obsm[key_added]`` and the provenance to ``adata.uns``."""
        if not np.array_equal(np.asarray(adata.obs_names, dtype=str), self.names.astype(str)):
            msg = (
                f"The embedding has {len(self.names)} names that are not `adata.obs_names` in "
                "their order. Write it to the object it was made from."
            )
            raise DataError(msg)
        adata.obsm[key_added] = self.values
        adata.uns[key_added] = {"provenance": self.provenance.to_json()}

    def save(self, path: str | Path) -> None:
        """Write to one ``.npz`` file, atomically and with a manifest."""
        arrays = {"values": self.values, "names": self.names.astype(str)}
        save_arrays(path, kind="embedding", arrays=arrays, meta=self.provenance.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote."""
        arrays, meta = load_arrays(path, kind="embedding")
        return cls(**arrays, provenance=Provenance.from_dict(meta))
