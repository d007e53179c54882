"""Sparse cells as tokenizers see them: CSR arrays whose columns know their place in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.kernels.ragged import realign_rows, survey_rows

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_INFINITY = int(np.float32(np.inf).view(np.uint32))

__all__ = [
    "PlaceMemo",
    "Rows",
    "csr_of",
    "feature_names",
    "obs_column",
    "places_of",
    "rows_of",
    "totals_column",
    "unchecked_csr_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Hold cells as CSR arrays.

    Parameters
    ----------
    indptr, indices, data
        int64, uint32, float32; the entries of a row ascend in their place in the table.
    places
        Place of each column in the table's features, ``-1`` when it has none.
    names
        Cell names.
    obs
        What else is known of the cells.
    totals
        Sum of each row over *all* columns, float64.
    zero_free
        No zero is stored.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    places: np.ndarray
    names: np.ndarray
    obs: pd.DataFrame
    totals: np.ndarray
    zero_free: bool = False

    @property
    def n(self) -> int:
        """Count cells."""
        return len(self.indptr) - 1

    def known_only(self) -> Rows:
        """Return the same cells without stored zeros and columns that have no place."""
        indptr, indices, data, places = _in_order(self.indptr, self.indices, self.data, self.places)
        return replace(
            self, indptr=indptr, indices=indices, data=data, places=places, zero_free=True
        )

    def by_column(self, values: np.ndarray, *, missing: Any) -> np.ndarray:
        """Spread one value a feature over the columns; ``missing`` where a column has none."""
        out = np.full(len(self.places), missing, dtype=values.dtype)
        known = self.places >= 0
        out[known] = values[self.places[known]]
        return out


@dataclass(slots=True)
class PlaceMemo:
    """Remember where the columns of the last data stand: parts of one data set share them.

    A stream asks for every part; comparing names costs a fraction of looking them up.
    """

    _names: tuple[pd.Index, ...] = ()
    _features: np.ndarray | None = None
    _places: np.ndarray | None = None

    def get(self, names: Sequence[pd.Index], features: np.ndarray) -> np.ndarray | None:
        """Return the places kept for the same names and features; ``None`` when they differ."""
        same = self._features is features and len(names) == len(self._names)
        if same and all(a is b or a.equals(b) for a, b in zip(names, self._names)):
            return None if self._places is None else self._places.copy()
        return None

    def keep(self, names: Sequence[pd.Index], features: np.ndarray, places: np.ndarray) -> None:
        """Keep the places of these names."""
        self._names, self._features, self._places = tuple(names), features, places.copy()


def rows_of(
    matrix: sp.csr_matrix,
    places: np.ndarray,
    *,
    names: np.ndarray,
    obs: pd.DataFrame,
    in_data_order: bool = False,
    layer: str = "X",
) -> Rows:
    """Bring CSR rows into the order of the table; nothing is copied when they are in it.

    ``places`` (one a column) says where each column stands in the table, ``-1``: nowhere. Values
    that are negative or not finite are refused; ``layer`` is what the error calls the matrix.
    """
    indptr = np.asarray(matrix.indptr, dtype=np.int64)
    data = np.ascontiguousarray(matrix.data, dtype=np.float32)
    indices = np.ascontiguousarray(matrix.indices, dtype=np.int32).view(np.uint32)
    totals, ascend, least, largest = survey_rows(indptr, indices, data)
    if largest >= _INFINITY:
        _refuse_bad_values(matrix, layer)
    known = places[places >= 0]
    places = np.ascontiguousarray(places, dtype=np.int64)
    ready = in_data_order or (not np.any(np.diff(known) <= 0) and ascend)
    if not ready:
        indptr, indices, data, places = _in_order(indptr, indices, data, places)
    # The least bit pattern is that of a stored zero; a negative zero has a sign, as the largest.
    zero_free = not ready or (least > 0 and largest < _INFINITY)
    return Rows(
        indptr=indptr, indices=indices, data=data, places=places, names=names, obs=obs,
        totals=totals, zero_free=bool(zero_free),
    )  # fmt: skip


def _in_order(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from cellweave.kernels.ragged import count_kept

    if len(np.unique(places[places >= 0])) < (places >= 0).sum():
        msg = (
            "Two columns carry the same feature name, so a token would stand twice. Sum them "
            "first, e.g. with cellweave_rna.sum_duplicates, or make the names unique."
        )
        raise DataError(msg)
    offsets = np.concatenate([[0], np.cumsum(count_kept(indptr, indices, data, places))])
    new_indices = np.empty(offsets[-1], dtype=np.uint32)
    new_data = np.empty(offsets[-1], dtype=np.float32)
    realign_rows(indptr, indices, data, places, offsets, new_indices, new_data)
    return offsets, new_indices, new_data, np.arange(places.max(initial=-1) + 1)


def places_of(names: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the place of each name in ``features``, ``-1`` when it is not there."""
    import pandas as pd

    if len(names) == len(features) and np.array_equal(names, features):
        return np.arange(len(features))
    return pd.Index(np.asarray(features, dtype=str)).get_indexer(np.asarray(names, dtype=str))


def feature_names(adata: AnnData, column: str | None) -> np.ndarray:
    """Return ``var_names``, or a column of ``var``."""
    if column is None:
        return np.asarray(adata.var_names, dtype=str)
    if column not in adata.var:
        msg = (
            f"var has no column {column!r}.{closest(column, adata.var.columns)} "
            f"Columns: {one_of(adata.var.columns)}. Set names_from to one of them."
        )
        raise ConfigError(msg)
    return np.asarray(adata.var[column].astype(str), dtype=str)


def obs_column(obs: pd.DataFrame, key: str, *, component: str) -> np.ndarray:
    """Return a column of ``obs``, or say that ``component`` needs it."""
    if key not in obs:
        msg = (
            f"{component!r} needs obs[{key!r}], which is not there."
            f"{closest(key, obs.columns)} Columns: {one_of(obs.columns)}."
        )
        raise ConfigError(msg)
    return obs[key].to_numpy()


def totals_column(obs: pd.DataFrame, key: str, *, component: str) -> np.ndarray:
    """Return a column of ``obs`` with each cell's total, float64; what is no number is refused."""
    import pandas as pd

    found = obs_column(obs, key, component=component)
    if found.dtype.kind not in "fiu":
        found = pd.to_numeric(pd.Series(found), errors="coerce").to_numpy(dtype=np.float64)
    totals: np.ndarray = found.astype(np.float64)
    if (wrong := np.flatnonzero(~(np.isfinite(totals) & (totals >= 0)))).size:
        msg = (
            f"obs[{key!r}] of cell {str(obs.index[wrong[0]])!r} is {obs[key].iloc[wrong[0]]!r}. "
            "Expected the cell's total, a number. Correct it."
        )
        raise DataError(msg)
    return totals


def csr_of(adata: AnnData, layer: str | None) -> sp.csr_matrix:
    """Return ``layers["counts"]`` (or the named layer, or ``X``) as checked CSR.

    ``layer=None`` takes ``layers["counts"]`` where there is one, since tokens are made of raw
    values; ``layer="X"`` takes ``X``.
    """
    matrix, layer = unchecked_csr_of(adata, layer)
    _refuse_bad_values(matrix, layer)
    return matrix


def unchecked_csr_of(adata: AnnData, layer: str | None) -> tuple[sp.csr_matrix, str]:
    """Return the matrix of :func:`csr_of`, whose values :func:`rows_of` checks, and its name."""
    if layer not in (None, "X") and layer not in adata.layers:
        msg = (
            f"There is no layer {layer!r}.{closest(str(layer), adata.layers)} "
            f"Layers: {one_of(adata.layers)}. Set layer to one of them, or to 'X'."
        )
        raise ConfigError(msg)
    if layer is None:
        layer = "counts" if "counts" in adata.layers else "X"
    values = adata.X if layer == "X" else adata.layers[layer]
    if values is None:
        msg = "The data have no X. Put raw values into X or layers['counts']."
        raise DataError(msg)
    return sp.csr_matrix(values), layer


def _refuse_bad_values(matrix: sp.csr_matrix, layer: str) -> None:
    data = matrix.data
    # Bit patterns of numbers that are not negative ascend as they do, up to infinity: one pass.
    if data.dtype == np.float32 and data.view(np.uint32).max(initial=0) < _INFINITY:
        return
    # NaN fails both comparisons, so two passes see everything.
    if len(data) == 0 or (data.min() >= 0 and data.max() < np.inf):
        return
    at = int(np.flatnonzero(~np.isfinite(data) | (data < 0))[0])
    row = int(np.searchsorted(matrix.indptr, at, side="right")) - 1
    msg = (
        f"{layer}[{row}, {matrix.indices[at]}] = {data[at]:g}. Tokens are made of finite values "
        "that are not negative. Give raw counts, e.g. with layer='counts'."
    )
    raise DataError(msg)
