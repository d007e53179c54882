"""On which axes a representation stands, so that new cells on other axes are refused.

A PCA or LSI of new cells has as many columns as the fitted one and other axes; nothing would fail
and every coordinate would be wrong. The loadings beside it tell: their digest is kept with a fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.errors import closest, one_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Basis", "basis_of", "new_cells_problem"]

_LOADINGS = {"X_pca": "PCs", "X_lsi": "lsi_loadings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Say which representation a fit read, and its axes.

    Parameters
    ----------
    key
        The ``obsm`` key.
    width
        Number of columns.
    loadings
        The ``varm`` key of its loadings; ``None`` where it has none (a foundation model's), so
        that only the width can be compared.
    digest
        Digest of the loadings by feature, whatever the order of the features.
    """

    key: str
    width: int
    loadings: str | None = None
    digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Take back :meth:`to_json`."""
        return cls(**values)


def basis_of(adata: AnnData, key: str) -> Basis:
    """Return the basis of ``obsm[key]``."""
    width = int(np.shape(adata.obsm[key])[1])
    loadings = _LOADINGS.get(key)
    if loadings is None or loadings not in adata.varm:
        return Basis(key=key, width=width)
    return Basis(key=key, width=width, loadings=loadings, digest=_digest(adata, loadings))


def new_cells_problem(name: str, adata: AnnData, fitted: Mapping[str, Basis]) -> str | None:
    """Return why new cells of a modality cannot be placed, ``None`` when they can."""
    if name not in fitted:
        return (
            f"Modality {name!r} was not fitted.{closest(name, fitted)} The fit knows: "
            f"{one_of(fitted)}. Leave {name!r} out, or fit again with it."
        )
    basis = fitted[name]
    here = f"mdata[{name!r}].obsm"
    if basis.key not in adata.obsm:
        found = one_of(adata.obsm)
        return f"{here} has no {basis.key!r}, which the fit read; it has: {found}. {_REMEDY}"
    values = np.asarray(adata.obsm[basis.key])
    if values.ndim != 2 or values.shape[1] != basis.width:
        return (
            f"{here}[{basis.key!r}] has shape {values.shape}; the fit read {basis.width} columns. "
            + _REMEDY
        )
    if not np.isfinite(values).all():
        rows = int((~np.isfinite(values).all(axis=1)).sum())
        return (
            f"{here}[{basis.key!r}] holds NaN or infinity for {rows} cells. Expected numbers: "
            "compute it again or drop these cells."
        )
    return _other_axes(name, adata, basis)


_REMEDY = (
    "Prepare the new cells together with the fitted ones, then split them; or project the new "
    "cells onto the fitted loadings and put these into varm."
)


def _other_axes(name: str, adata: AnnData, basis: Basis) -> str | None:
    if basis.loadings is None:
        return None
    here = f"mdata[{name!r}]"
    if basis.loadings not in adata.varm:
        return (
            f"{here}.varm has no {basis.loadings!r}, so it cannot be told whether its "
            f"{basis.key!r} stands on the axes of the fit. {_REMEDY}"
        )
    digest = _digest(adata, basis.loadings)
    if digest == basis.digest:
        return None
    return (
        f"{here}.obsm[{basis.key!r}] stands on other axes than the fit's: varm"
        f"[{basis.loadings!r}] has the digest {digest}, the fit's had {basis.digest}. Coordinates "
        f"of one are meaningless in the other. {_REMEDY}"
    )


def _digest(adata: AnnData, loadings: str) -> str:
    """Hash name and loadings of every feature that has any, in the order of the names."""
    values = np.ascontiguousarray(adata.varm[loadings], dtype=np.float32)
    names = adata.var_names.to_numpy(dtype=str)
    used = np.flatnonzero(values.any(axis=1))
    used = used[np.argsort(names[used], kind="stable")]
    found = hashlib.sha256("\n".join(names[used]).encode())
    found.update(values[used].tobytes())
    return found.hexdigest()[:16]
