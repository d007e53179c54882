"""Rank-value tokens: a cell is its features, the most remarkable first.

Rule (Geneformer, Theodoris et al., Nature 2023; Nicheformer, Schaar et al. 2024; EpiAgent):
``r_g = c_g / total · target / factor_g``; tokens are the features with ``r_g > 0`` in descending
order of ``r_g``; the factor is the feature's median (Geneformer), its mean in the cell's
technology (Nicheformer) or its document frequency (regions). Published code sorts unstably; here
equal values stand in vocabulary order unless ``tie_break="numpy"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of
from cellweave.kernels.ragged import row_sums, sum_kept
from cellweave.kernels.ranking import rank_rows
from cellweave.tokenizing.base import NO_KEYS, NO_VALUES, Body, SparseTokenizer
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.rows import Rows, obs_column, totals_column
from cellweave.tokenizing.statistics import GroupedStatistics

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["RankTokenizer"]

_ALL = "all"
_FACTOR = "factor/"


@dataclass(kw_only=True, eq=False)
class RankTokenizer(SparseTokenizer):
    """Order each cell's features by value over factor, largest first.

    Parameters
    ----------
    scaling
        Factor learnt for each feature: ``"median"`` or ``"mean"`` of its non-zero normalised
        values, or ``"none"``.
    group_key
        Column of ``obs`` (the technology): factors are learnt and used by group; a feature that
        a group never measured gets no token there.
    target_sum
        What cells are normalised to; 0 leaves values as they are.
    total
        What a cell's total is: ``"all"`` columns, those of the ``"vocabulary"``, or the name of
        an ``obs`` column.
    arithmetic
        ``"float32"`` rounds ``c / total`` and ``· target`` as float32 matrices do upstream.
    tie_break
        ``"stable"``: equal values in vocabulary order. ``"numpy"``: as ``numpy.argsort`` leaves
        them, features in the order of the data (slow; depends on numpy's build).
    keep_values
        Keep normalised values (without the factor) beside the ids.
    """

    component: ClassVar[str] = "rank"

    scaling: Literal["median", "mean", "none"] = "median"
    group_key: str | None = None
    target_sum: float = 1e4
    total: str = "all"
    arithmetic: Literal["float32", "float64"] = "float32"
    tie_break: Literal["stable", "numpy"] = "stable"
    keep_values: bool = False

    def _problems(self) -> list[str]:
        problems = super()._problems()
        for name, allowed in (
            ("scaling", ("median", "mean", "none")),
            ("arithmetic", ("float32", "float64")),
            ("tie_break", ("stable", "numpy")),
        ):
            if getattr(self, name) not in allowed:
                problems.append(f"{name}={getattr(self, name)!r}; expected one of {allowed}")
        if self.target_sum < 0:
            problems.append(f"target_sum={self.target_sum!r}; expected 0 or more")
        return problems

    # ------------------------------------------------------------------ fitting

    def _learn(self, matrix: sp.csr_matrix, places: np.ndarray, adata: AnnData) -> None:
        if self.scaling == "none":
            return
        statistics = self._learning.setdefault(
            "statistics", GroupedStatistics(medians=self.scaling == "median")
        )
        totals = self._totals_at_fit(matrix, adata)
        scale = self.target_sum / np.where(totals > 0, totals, 1) if self.target_sum else None
        groups = self._groups_at_fit(adata)
        for name in np.unique(groups):
            rows = np.flatnonzero(groups == name)
            part = matrix if len(rows) == matrix.shape[0] else sp.csr_matrix(matrix[rows])
            values = part.data.astype(np.float64)
            if scale is not None:
                values = values * np.repeat(scale[rows], np.diff(part.indptr))
            positive = values > 0
            statistics.add(str(name), places[part.indices[positive]], values[positive])

    def _totals_at_fit(self, matrix: sp.csr_matrix, adata: AnnData) -> np.ndarray:
        if self.total in (_ALL, "vocabulary"):
            return row_sums(np.asarray(matrix.indptr, dtype=np.int64), matrix.data)
        return totals_column(adata.obs, self.total, component=self.component)

    def _groups_at_fit(self, adata: AnnData) -> np.ndarray:
        if self.group_key is None:
            return np.full(adata.n_obs, _ALL)
        return obs_column(adata.obs, self.group_key, component=self.component).astype(str)

    def _numbers(self) -> Mapping[str, np.ndarray]:
        n = len(self._learning["features"])
        if self.scaling == "none":
            return {_FACTOR + _ALL: np.ones(n)}
        statistics: GroupedStatistics = self._learning["statistics"]
        found = statistics.median_values(n) if self.scaling == "median" else statistics.means(n)
        return {_FACTOR + group: factors for group, factors in sorted(found.items())}

    # ------------------------------------------------------------------ encoding

    def factors(self, group: str = _ALL) -> np.ndarray:
        """Return the divisor of each feature of the table in one group; NaN: not measured."""
        known = {k.removeprefix(_FACTOR): v for k, v in self.table.numbers.items()}
        if group not in known:
            msg = (
                f"There are no factors for {group!r}.{closest(group, known)} "
                f"There are: {one_of(known)}. Fit on such cells, or rename obs[{self.group_key!r}]."
            )
            raise DataError(msg)
        return known[group]

    @property
    def in_data_order(self) -> bool:
        """Tell whether rows must keep the order of the data: only numpy's ties depend on it."""
        return self.tie_break == "numpy"

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        groups, names = self._groups(rows)
        tokens, factors = self._by_group(rows, names)
        totals = self._totals(rows)
        # Room for every stored entry; what stored zeros and unknown columns leave is closed later.
        body = self._laid_out(np.diff(rows.indptr), frame)
        if self.keep_values:
            body.values = np.zeros(len(body.ids), dtype=np.float32)
        values = NO_VALUES if body.values is None else body.values
        keys = self._keys(rows, "overflow") if self.overflow == "sample" else NO_KEYS
        arguments = (
            rows.indptr, rows.indices, rows.data, tokens, factors, groups, totals,
            float(self.target_sum), self.arithmetic == "float32",
            body.starts, body.lengths, keys, body.ids, values,
        )  # fmt: skip
        rank = _rank_as_numpy if self.tie_break == "numpy" else rank_rows
        return self._tightened(body, rank(*arguments), frame)

    def _groups(self, rows: Rows) -> tuple[np.ndarray, list[str]]:
        if self.group_key is None:
            return np.zeros(rows.n, dtype=np.int64), [_ALL]
        import pandas as pd

        column = obs_column(rows.obs, self.group_key, component=self.component)
        codes, names = pd.factorize(column.astype(str))
        return codes.astype(np.int64), [str(n) for n in names]

    def _by_group(self, rows: Rows, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and divisors as (n_groups, n_columns); what has no divisor has no id."""
        known = [self.factors(name) for name in names] or [self.factors()]
        usable = [np.isfinite(f) & (f > 0) for f in known]
        ids = [np.where(u, self.table.ids, -1).astype(np.int32) for u in usable]
        divisors = [np.where(u, f, 1.0) for u, f in zip(usable, known)]
        tokens = np.stack([rows.by_column(i, missing=-1) for i in ids])
        return tokens, np.stack([rows.by_column(d, missing=1.0) for d in divisors])

    def _totals(self, rows: Rows) -> np.ndarray:
        if self.total == _ALL:
            totals = rows.totals
        elif self.total == "vocabulary":
            ids = rows.by_column(self.table.ids, missing=-1)
            totals = sum_kept(rows.indptr, rows.indices, rows.data, ids)
        else:
            totals = totals_column(rows.obs, self.total, component=self.component)
        # An empty cell has no tokens to scale; 1 keeps its division defined.
        return np.where(totals > 0, totals, 1.0)


def _rank_as_numpy(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, tokens: np.ndarray,
    factors: np.ndarray, groups: np.ndarray, totals: np.ndarray, target: float, single: bool,
    starts: np.ndarray, limits: np.ndarray, keys: np.ndarray,
    out_ids: np.ndarray, out_values: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Do what :func:`rank_rows` does with ``numpy.argsort``, whose ties upstream has."""
    from cellweave.kernels.choosing import thin_rows

    kind = np.float32 if single else np.float64
    written = np.zeros(len(starts), dtype=np.int64)
    for i in range(len(starts)):
        row = slice(indptr[i], indptr[i + 1])
        columns = indices[row]
        values: np.ndarray = data[row].astype(kind)
        if target > 0:
            values = np.multiply(np.divide(values, kind(totals[i])), kind(target))
        kept = (tokens[groups[i], columns] >= 0) & (values != 0)
        columns, values = columns[kept], values[kept]
        order = np.argsort(-(values / factors[groups[i], columns]))
        if len(keys) and len(order) > limits[i]:
            lengths = np.array([len(order)])
            order = order[thin_rows(lengths, limits[i : i + 1], keys[i : i + 1])]
        order = order[: limits[i]]
        written[i] = len(order)
        at = slice(starts[i], starts[i] + len(order))
        out_ids[at] = tokens[groups[i], columns[order]]
        if len(out_values):
            out_values[at] = values[order]
    return written
