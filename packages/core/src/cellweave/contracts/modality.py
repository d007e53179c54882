"""The contract of a modality: read its formats, prepare it, know its words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellweave.records import Prepared

__all__ = ["Modality"]


@runtime_checkable
class Modality(Protocol):
    """Know one way of measuring a cell.

    **The prepared form.** ``prepare`` returns a *new* AnnData that every integrator and task can
    rely on:

    - ``layers["counts"]``: the raw values (counts, intensities), CSR where they are sparse;
    - ``X``: normalised values, float32;
    - ``obsm[self.representation]``: ``(n_cells, k)`` float32 low-dimensional coordinates;
    - ``var["highly_variable"]``: the features to model;
    - ``uns["preparation"]``: the JSON of the :class:`~cellweave.records.Preparation`.

    Attributes
    ----------
    name
        Key in a MuData: ``rna``, ``atac``, ``prot``, ``spatial``, ``metab`` or a third party's.
    representation
        Key in ``obsm`` of the prepared coordinates: ``"X_pca"``, ``"X_lsi"`` …
    formats
        File suffixes or folder signs that ``read`` knows beyond h5ad, h5mu and zarr.
    settings_type
        Not required: ``"module:attr"`` of the record that holds the settings of ``prepare``;
        ``cellweave plugins show`` lists its fields.
    """

    name: str
    representation: str
    formats: tuple[str, ...]

    def guess(self, adata: AnnData) -> float:
        """Say from 0 to 1 how surely ``adata`` is of this modality, looking at names and values."""
        ...

    def read(self, path: Path) -> AnnData:
        """Read one of ``formats`` into an AnnData of raw values; refuse anything else."""
        ...

    def prepare(
        self, adata: AnnData, *, settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Prepared:
        """Return the prepared form of raw data, and the record of how it was made.

        ``adata`` is not changed. Cells keep their order; a step that drops cells or features
        says so in its outcome. Unknown settings are refused with the closest known one.
        """
        ...

    def quality(self, adata: AnnData) -> pd.DataFrame:
        """Return quality measures, one row a cell in input order."""
        ...
