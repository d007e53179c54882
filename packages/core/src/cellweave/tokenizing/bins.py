"""Binned values: the feature is the id, its bin within the cell is the value.

Rules: scGPT's quantile bins (Cui et al., Nature Methods 2024): edges are the quantiles
``linspace(0, 1, n_bins − 1)`` of a cell's non-zero values; scBERT's logarithmic bins
``min(⌊log2(1 + CP10K)⌋, cap)``; bins of equal width up to the cell's largest value (scMulan).
Quantile bins are made of all known features before a long cell is cut, as upstream does. Where
several edges equal a value scGPT draws a bin at random; here the draw belongs to cell and feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from cellweave.kernels.binning import log2_bins, quantile_bins, uniform_bins
from cellweave.tokenizing.features import FeatureTokenizer, all_kept
from cellweave.tokenizing.rows import Rows

__all__ = ["BinTokenizer"]

_TIES = {"random": 0, "lowest": 1, "highest": 2}
_MOST_BINS = 10_000


@dataclass(kw_only=True, eq=False)
class BinTokenizer(FeatureTokenizer):
    """Bin each cell's values.

    Parameters
    ----------
    rule
        ``"quantile"`` (scGPT), ``"log2"`` (scBERT) or ``"uniform"`` (scMulan).
    n_bins
        Number of bins, zero's among them for ``"quantile"`` (values 1 … ``n_bins − 1``); number
        of non-zero bins for ``"uniform"``; the largest bin for ``"log2"``.
    log1p
        Take ``log1p`` after normalising (matters for uniform bins; quantile bins hardly move).
    ties
        Bin of a value that several edges equal: ``"random"`` among theirs, ``"lowest"`` or
        ``"highest"``.
    """

    component: ClassVar[str] = "bins"

    rule: Literal["quantile", "log2", "uniform"] = "quantile"
    n_bins: int = 51
    log1p: bool = False
    ties: Literal["random", "lowest", "highest"] = "random"

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.rule not in ("quantile", "log2", "uniform"):
            problems.append(f"rule={self.rule!r}; expected 'quantile', 'log2' or 'uniform'")
        if not 3 <= self.n_bins <= _MOST_BINS:
            problems.append(f"n_bins={self.n_bins!r}; expected 3 to {_MOST_BINS}")
        if self.ties not in _TIES:
            problems.append(f"ties={self.ties!r}; expected one of {', '.join(_TIES)}")
        return problems

    @property
    def close(self) -> bool:
        """Tell whether rows must be written one behind the other: quantile bins read lengths."""
        return self.rule == "quantile"

    def _write(
        self,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        values: np.ndarray,
    ) -> None:
        cells = (rows.indptr, rows.indices, rows.data, tokens)
        totals, target = self._totals(rows, tokens), float(self.target_sum)
        if self.rule == "log2":
            log2_bins(
                *cells, totals, target, self.n_bins, starts, ids, values,
                all_kept=all_kept(rows, tokens),
            )  # fmt: skip
        elif self.rule == "uniform":
            uniform_bins(*cells, totals, target, self.log1p, self.n_bins, starts, ids, values)
        else:
            keys = self._keys(rows, "ties")
            quantile_bins(
                *cells, totals, target, self.log1p, self.n_bins, _TIES[self.ties], keys,
                starts, ids, values,
            )  # fmt: skip
