"""Find the raw values of an AnnData and refuse what is not raw, over all values."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.preparing.blocks import is_lazy, map_rows, sum_over_blocks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["raw_values"]

_NOT_WHOLE = "is not a whole number"


def raw_values(
    adata: AnnData,
    *,
    modality: str,
    integers: bool = True,
    lazily: bool = False,
    otherwise: str = "",
) -> Any:
    """Return a float32 CSR copy of the raw values: ``layers["counts"]``, else ``X``.

    Parameters
    ----------
    adata
        Data; not changed.
    modality
        How to call it in an error.
    integers
        Whether raw means whole numbers (counts), not just non-negative ones (intensities).
    lazily
        Whether a Dask array may come back as a Dask array (looked through once, block by block);
        it is read into memory otherwise.
    otherwise
        What to do where there are no counts, told when values are not whole.

    Raises
    ------
    DataError
        With everything that is wrong: emptiness, duplicate names, NaN, negative or broken counts.
    """
    place = 'layers["counts"]' if "counts" in adata.layers else "X"
    matrix = adata.layers.get("counts", adata.X)
    problems = _problems_of_names(adata)
    if matrix is None:
        problems.append("there is neither layers['counts'] nor X")
    elif 0 in matrix.shape:
        problems.append(f"{place} has shape {tuple(matrix.shape)}")
    else:
        if is_lazy(matrix) and not lazily:
            matrix = matrix.compute()
        matrix = map_rows(_canonical, matrix)
        problems += _problems_of_values(matrix, place, integers=integers)
    if problems:
        wanted = "raw counts" if integers else "raw, non-negative intensities"
        msg = (
            f"Cannot prepare {modality!r}: {'; '.join(problems)}. Expected {wanted} with unique "
            "names. Put the raw values into layers['counts'], and make names unique with "
            "adata.obs_names_make_unique() and adata.var_names_make_unique()."
        )
        if otherwise and any(_NOT_WHOLE in problem for problem in problems):
            msg = f"{msg} {otherwise}"
        raise DataError(msg)
    return matrix


def _canonical(matrix: Any) -> sp.csr_matrix:
    counts = sp.csr_matrix(matrix, dtype=np.float32, copy=True)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts


def _problems_of_names(adata: AnnData) -> list[str]:
    problems = []
    for axis, names in (("obs_names", adata.obs_names), ("var_names", adata.var_names)):
        if not names.is_unique:
            first = names[names.duplicated()][0]
            problems.append(f"{axis} holds {first!r} more than once")
    return problems


def _problems_of_values(matrix: Any, place: str, *, integers: bool) -> list[str]:
    """Say what is wrong with how many values, and where the first of them stands."""
    n_kinds = 3 if integers else 2
    count = partial(_count_wrong, integers=integers)
    *counted, n_values = sum_over_blocks(count, matrix, shape=(1, n_kinds + 1))[0]
    problems = [] if n_values else [f"{place} holds nothing but zeros"]
    for kind in np.flatnonzero(counted):
        row, column, value, what = _first_wrong(matrix, int(kind), integers=integers)
        where = f"{place}[{row}, {column}] = {value:g}"
        problems.append(f"{where} {what} ({int(counted[kind])} such values)")
    return problems


def _wrong(counts: sp.csr_matrix, *, integers: bool) -> list[tuple[str, np.ndarray]]:
    data = counts.data
    checks = [
        ("is not finite", ~np.isfinite(data)),
        ("is negative", data < 0),
    ]
    if integers:
        checks.append((_NOT_WHOLE, np.isfinite(data) & (data != np.rint(data))))
    return checks


def _count_wrong(counts: sp.csr_matrix, *, integers: bool) -> np.ndarray:
    """Count the values of each kind that is wrong, and all there are."""
    wrong = [w.sum() for _, w in _wrong(counts, integers=integers)]
    return np.array([[*wrong, len(counts.data)]], dtype=np.float64)


def _first_wrong(matrix: Any, kind: int, *, integers: bool) -> tuple[int, int, float, str]:
    first = 0
    for block in matrix.blocks.ravel() if is_lazy(matrix) else [matrix]:
        counts = block.compute() if is_lazy(block) else block
        what, wrong = _wrong(counts, integers=integers)[kind]
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            row = int(np.searchsorted(counts.indptr, at, side="right")) - 1
            return first + row, int(counts.indices[at]), float(counts.data[at]), what
        first += counts.shape[0]
    msg = "a wrong value was counted and is not found: the file changed while it was read"
    raise DataError(msg)
