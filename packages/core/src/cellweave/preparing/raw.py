"""Find the raw values of an AnnData and refuse what is not raw, over all values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["raw_values"]


def raw_values(adata: AnnData, *, modality: str, integers: bool = True) -> sp.csr_matrix:
    """Return a float32 CSR copy of the raw values: ``layers["counts"]``, else ``X``.

    Parameters
    ----------
    adata
        Data; not changed.
    modality
        How to call it in an error.
    integers
        Whether raw means whole numbers (counts), not just non-negative ones (intensities).

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
        counts = sp.csr_matrix(matrix, dtype=np.float32, copy=True)
        counts.sum_duplicates()
        counts.eliminate_zeros()
        problems += _problems_of_values(counts, place, integers=integers)
    if problems:
        wanted = "raw counts" if integers else "raw, non-negative intensities"
        msg = (
            f"Cannot prepare {modality!r}: {'; '.join(problems)}. Expected {wanted} with unique "
            "names. Put the raw values into layers['counts'], and make names unique with "
            "adata.obs_names_make_unique() and adata.var_names_make_unique()."
        )
        raise DataError(msg)
    return counts


def _problems_of_names(adata: AnnData) -> list[str]:
    problems = []
    for axis, names in (("obs_names", adata.obs_names), ("var_names", adata.var_names)):
        if not names.is_unique:
            first = names[names.duplicated()][0]
            problems.append(f"{axis} holds {first!r} more than once")
    return problems


def _problems_of_values(counts: sp.csr_matrix, place: str, *, integers: bool) -> list[str]:
    data = counts.data
    checks = [
        ("is not finite", ~np.isfinite(data)),
        ("is negative", data < 0),
    ]
    if integers:
        checks.append(("is not a whole number", np.isfinite(data) & (data != np.rint(data))))
    problems = []
    for what, wrong in checks:
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            row = int(np.searchsorted(counts.indptr, at, side="right")) - 1
            where = f"{place}[{row}, {counts.indices[at]}] = {data[at]:g}"
            problems.append(f"{where} {what} ({int(wrong.sum())} such values)")
    return problems
