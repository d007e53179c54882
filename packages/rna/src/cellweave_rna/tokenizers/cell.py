"""Cells as tokens (CellPLM): a sample is the sequence, a cell is one token of it.

Rule (Wen et al., ICLR 2024): a cell's token is ``Σ_g log1p(x_g) · E_g``, and the cells of one
tissue sample attend to each other. A ragged cell holds what the sum needs (gene ids and
``log1p`` counts); ``context["sequence"]`` says which cells belong together, and
``context["place"]`` holds their coordinates where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cellweave.errors import ConfigError, closest, one_of
from cellweave.tokenizing.rows import Rows
from cellweave_rna.tokenizers.bins import GeneTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens

__all__ = ["CellTokenizer"]


@dataclass(kw_only=True, eq=False)
class CellTokenizer(GeneTokenizer):
    """Give each cell the genes and values whose sum is its token.

    Parameters
    ----------
    sample_key
        Column of ``obs``: cells of one value form one sequence; ``None``: all cells do.
    log1p
        Take ``log1p`` of the values (of raw counts, as CellPLM does, unless ``target_sum`` is set).
    spatial_key
        ``obsm`` key of coordinates to hand on; ignored where the data have none.
    """

    component: ClassVar[str] = "rna.cell"

    sample_key: str | None = None
    log1p: bool = True
    spatial_key: str = "spatial"

    def encode(self, adata: AnnData) -> Tokens:
        """Return genes and values of every cell, and which cells form a sequence."""
        from dataclasses import replace

        tokens = super().encode(adata)
        if self.spatial_key not in adata.obsm:
            return tokens
        place = np.asarray(adata.obsm[self.spatial_key], dtype=np.float32)
        return replace(tokens, context={**tokens.context, "place": place})

    def _context_of(self, rows: Rows) -> dict[str, np.ndarray]:
        import pandas as pd

        if self.sample_key is None:
            sequence = np.zeros(rows.n, dtype=np.int32)
        elif self.sample_key in rows.obs:
            values = rows.obs[self.sample_key].astype(str)
            sequence = pd.factorize(values)[0].astype(np.int32)
        else:
            columns = rows.obs.columns
            msg = (
                f"obs has no column {self.sample_key!r}.{closest(self.sample_key, columns)} "
                f"Columns: {one_of(columns)}. Set sample_key to one of them or to None."
            )
            raise ConfigError(msg)
        return {**super()._context_of(rows), "sequence": sequence}

    def _write(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
    ) -> None:
        self._write_scaled(rows, tokens, starts, ids, values, log1p=self.log1p)
