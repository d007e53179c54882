"""Continuous values: the feature is the id, its normalised ``log1p`` is the value.

Rule (xTrimoGene, Gong et al. 2023): features above zero in vocabulary order with
``log1p(c / Σc · target)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from cellweave.tokenizing.features import FeatureTokenizer, decoded
from cellweave.tokenizing.rows import Rows

__all__ = ["ValueTokenizer"]


@dataclass(kw_only=True, eq=False)
class ValueTokenizer(FeatureTokenizer):
    """Give each feature its continuous value.

    Parameters
    ----------
    log1p
        Take ``log1p`` after normalising.
    """

    component: ClassVar[str] = "values"

    target_sum: float = 1e4
    total: str = "vocabulary"
    log1p: bool = True

    def _write(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
    ) -> None:
        self._write_scaled(rows, tokens, starts, ids, values, log1p=self.log1p)

    def decode(self, tokens: Any) -> sp.csr_matrix:
        """Return the values as CSR, columns in the order of ``table.features``."""
        return decoded(self.table, tokens)
