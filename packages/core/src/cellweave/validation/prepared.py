"""Check that a modality is in the prepared form before an integrator or a task begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave.validation.values import ValueKind, summarise_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["check_prepared"]

_NOT_RAW = (ValueKind.NEGATIVE, ValueKind.SCALED, ValueKind.NOT_NUMERIC, ValueKind.EMPTY)


def check_prepared(
    mdata: MuData,
    modality: str,
    representation: str | None = None,
    *,
    counts: bool = True,
    highly_variable: bool = False,
) -> AnnData:
    """Return ``mdata[modality]`` when it holds what the step needs, or raise with all that lacks.

    Parameters
    ----------
    mdata, modality
        The object and the key to look at.
    representation
        Key in ``obsm`` that must hold finite coordinates; ``None`` when none is needed.
    counts
        Whether ``layers["counts"]`` must hold raw values, finite and not negative.
    highly_variable
        Whether ``var["highly_variable"]`` must choose at least one feature.

    Raises
    ------
    DataError
        Listing everything that is missing or wrong, with the call that mends it.
    """
    if modality not in mdata.mod:
        msg = (
            f"There is no modality {modality!r}.{closest(modality, mdata.mod)} "
            f"The data hold: {one_of(mdata.mod)}. Read it with cellweave.read('{modality}=file')."
        )
        raise DataError(msg)
    adata = mdata.mod[modality]
    problems = [*_shape(adata), *_matrices(adata, counts=counts)]
    problems += _representation(adata, representation) if representation is not None else ()
    problems += _chosen(adata) if highly_variable else ()
    if problems:
        msg = (
            f"mdata[{modality!r}] is not prepared: {'; '.join(problems)}. "
            "Run `mdata = cellweave.prepare(mdata)` first."
        )
        raise DataError(msg)
    return adata


def _shape(adata: AnnData) -> Iterator[str]:
    if 0 in adata.shape:
        yield f"it holds {adata.n_obs} cells × {adata.n_vars} features"
    for axis in ("obs", "var"):
        names = getattr(adata, f"{axis}_names")
        if not names.is_unique:
            yield f"{axis}_names hold {str(names[names.duplicated()][0])!r} more than once"


def _matrices(adata: AnnData, *, counts: bool) -> Iterator[str]:
    if adata.X is None:
        yield "X is missing"
    elif bad := _not_finite(adata.X):
        yield f"X holds {bad} NaN or infinite values"
    if not counts:
        return
    if "counts" not in adata.layers:
        yield "layers['counts'] with the raw values is missing"
        return
    raw = summarise_values(adata.layers["counts"])
    if raw.n_not_finite:
        yield f"layers['counts'] holds {raw.n_not_finite} NaN or infinite values"
    if raw.kind in _NOT_RAW:
        yield f"layers['counts'] is {raw.kind}, smallest value {raw.minimum:g}"


def _representation(adata: AnnData, key: str) -> Iterator[str]:
    if key not in adata.obsm:
        yield f"obsm[{key!r}] is missing.{closest(key, adata.obsm)} There is: {one_of(adata.obsm)}"
        return
    values = adata.obsm[key]
    if getattr(values, "ndim", 0) != 2 or values.shape[1] == 0:
        shape = getattr(values, "shape", None)
        yield f"obsm[{key!r}] has shape {shape}, expected cells × dimensions"
    elif bad := _not_finite(values):
        yield f"obsm[{key!r}] holds {bad} NaN or infinite values"


def _chosen(adata: AnnData) -> Iterator[str]:
    if "highly_variable" not in adata.var:
        yield "var['highly_variable'] is missing"
    elif not np.asarray(adata.var["highly_variable"], dtype=bool).any():
        yield "var['highly_variable'] chooses no feature"


def _not_finite(values: Any) -> int:
    data = values.data if hasattr(values, "indptr") else np.asarray(values)
    return int(data.size - np.count_nonzero(np.isfinite(data))) if data.dtype.kind == "f" else 0
