"""Accessible regions as a sequence, the most remarkable first (EpiAgent's rule).

``r = log1p(1e4 · x / rowsum / document_frequency)``; tokens are the accessible regions in
descending order of ``r``. The logarithm and the constant keep the order, so the rank kernel does
it with the document frequency as divisor. Cells with more regions than fit are thinned at random,
order kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.ragged import row_sums
from cellweave.tokenizing.base import Body
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.ranks import RankTokenizer
from cellweave.tokenizing.rows import Rows

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["RegionTokenizer"]


@dataclass(kw_only=True, eq=False)
class RegionTokenizer(RankTokenizer):
    """Order each cell's accessible regions by TF-IDF, largest first.

    Parameters
    ----------
    binary
        Count a region as open or not.
    """

    component: ClassVar[str] = "regions"
    modality: ClassVar[str] = "atac"

    start: bool = True
    end: bool = True
    max_length: int | None = 8192
    overflow: Literal["truncate", "sample"] = "sample"
    scaling: Literal["median", "mean", "none"] = "none"
    arithmetic: Literal["float32", "float64"] = "float64"
    binary: bool = True

    def _learn(self, matrix: sp.csr_matrix, places: np.ndarray, adata: AnnData) -> None:
        size = len(self._learning["features"])
        seen = self._learning.setdefault("seen", np.zeros(size))
        present = places[matrix.indices[matrix.data != 0]]
        counts = np.bincount(present, minlength=size).astype(float)
        self._learning["seen"] = np.pad(seen, (0, size - len(seen))) + counts

    def _numbers(self) -> Mapping[str, np.ndarray]:
        seen = np.pad(
            self._learning["seen"],
            (0, len(self._learning["features"]) - len(self._learning["seen"])),
        )
        share = seen / max(self._learning["n_cells"], 1)
        # A region that no cell of the fit had open is as rare as can be told.
        return {"factor/all": np.where(seen > 0, share, 1 / (self._learning["n_cells"] + 1))}

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        if self.binary:
            open_ = (rows.data != 0).astype(np.float32)
            rows = replace(rows, data=open_, totals=row_sums(rows.indptr, open_))
        return super()._encoded(rows, frame)
