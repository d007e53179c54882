"""What a task says about each cell (or gene, or perturbation), with how sure it is."""

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

__all__ = ["Prediction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Hold predictions in the order of the input.

    Parameters
    ----------
    names
        ``(n,)`` names of what was predicted for.
    values
        ``(n,)`` labels or numbers, or ``(n, k)`` numbers.
    confidence
        ``(n,)`` in ``[0, 1]``, or ``None`` where the task has no such notion.
    columns
        Names of the ``k`` columns of ``values`` or ``probabilities``.
    probabilities
        ``(n, k)`` class probabilities.
    provenance
        What made it.
    """

    names: np.ndarray
    values: np.ndarray
    provenance: Provenance
    confidence: np.ndarray | None = None
    columns: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Refuse arrays of unlike length."""
        for name in ("values", "confidence", "probabilities"):
            array = getattr(self, name)
            if array is not None and len(array) != len(self.names):
                msg = f"Prediction `{name}` has {len(array)} rows for {len(self.names)} names."
                raise DataError(msg)

    def write(self, adata: AnnData, *, key_added: str) -> None:
        """Write one value a cell to ``obs``, more to ``layers`` or ``obsm``."""
        if not np.array_equal(np.asarray(adata.obs_names, dtype=str), self.names.astype(str)):
            msg = (
                f"The prediction is for {len(self.names)} names that are not `adata.obs_names` "
                "in their order. Write it to the object it was made from."
            )
            raise DataError(msg)
        if self.values.ndim == 1:
            adata.obs[key_added] = self.values
        elif self.values.shape == adata.shape:
            adata.layers[key_added] = self.values
        else:
            adata.obsm[key_added] = self.values
        if self.confidence is not None:
            adata.obs[f"{key_added}_confidence"] = self.confidence
        adata.uns[key_added] = {"provenance": self.provenance.to_json()}

    def save(self, path: str | Path) -> None:
        """Write to one ``.npz`` file, atomically and with a manifest."""
        arrays = {}
        for name in ("names", "values", "confidence", "columns", "probabilities"):
            array = getattr(self, name)
            if array is not None:
                arrays[name] = array.astype(str) if array.dtype == object else array
        save_arrays(path, kind="prediction", arrays=arrays, meta=self.provenance.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote."""
        arrays, meta = load_arrays(path, kind="prediction")
        return cls(**arrays, provenance=Provenance.from_dict(meta))
