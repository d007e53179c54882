"""The cells of one modality in canonical order: sorted by content, whatever order they came in.

Not by name: names of two modalities may be the same, and an order by name would then put partners
at the same place, from where it could leak into blocks and ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellweave.weaving.basis import Basis, basis_of
from cellweave.weaving.checks import representation_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

__all__ = ["Cells", "batch_codes", "batch_means", "cells_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Hold one modality as an integrator of linear algebra takes it.

    Parameters
    ----------
    name
        The modality.
    obs_names
        ``(n,)`` names in the order of the input.
    order
        ``(n,)`` input position of each canonical row: ``canonical = given[order]``.
    representation
        ``(n, k)`` float32 coordinates in canonical order, centred within each batch.
    batch
        ``(n,)`` code of the batch in canonical order; all zero without batches.
    batches, means
        Names of the batches, and the ``(n_batches, k)`` means that were taken off.
    basis
        The ``obsm`` key it was read from, and its axes.
    """

    name: str
    obs_names: np.ndarray
    order: np.ndarray
    representation: np.ndarray
    batch: np.ndarray
    batches: tuple[str, ...]
    means: np.ndarray
    basis: Basis

    def in_input_order(self, values: np.ndarray) -> np.ndarray:
        """Return canonical rows in the order of the input."""
        out = np.empty_like(values)
        out[self.order] = values
        return out


def cells_of(
    name: str, adata: AnnData, *, use_rep: Mapping[str, str], batch_key: str | None = None
) -> Cells:
    """Read the cells of a checked modality; ``adata`` is not changed."""
    key = representation_key(name, adata, use_rep)
    assert key is not None, "check_inputs comes first"
    names = adata.obs_names.to_numpy(dtype=str)
    given = np.asarray(adata.obsm[key], dtype=np.float32)
    order = np.lexsort(given.T[::-1])
    codes, batches = _codes(adata, batch_key)
    batch = codes[order]
    values = given[order]
    means = batch_means(values, batch)
    return Cells(
        name=name,
        obs_names=names,
        order=order,
        representation=values - means[batch],
        batch=batch,
        batches=batches,
        means=means,
        basis=basis_of(adata, key),
    )


def batch_means(values: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return the float32 mean of the rows of each batch."""
    n_batches = int(batch.max(initial=0)) + 1
    sums = np.stack([values[batch == b].sum(axis=0, dtype=np.float64) for b in range(n_batches)])
    counts = np.maximum(np.bincount(batch, minlength=n_batches), 1)
    means: np.ndarray = (sums / counts[:, None]).astype(np.float32)
    return means


def batch_codes(adata: AnnData, batch_key: str | None, known: Sequence[str]) -> np.ndarray:
    """Return the code of each new cell's batch in ``known``.

    A batch that was not fitted gets one code beyond the last; without batches all cells are of the
    one there was.
    """
    if batch_key is None or batch_key not in adata.obs:
        return np.full(adata.n_obs, 0 if len(known) == 1 else len(known))
    at = {b: i for i, b in enumerate(known)}
    unique, codes = np.unique(adata.obs[batch_key].to_numpy(dtype=str), return_inverse=True)
    found: np.ndarray = np.array([at.get(str(b), len(known)) for b in unique])[codes]
    return found


def _codes(adata: AnnData, batch_key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    if batch_key is None or batch_key not in adata.obs:
        return np.zeros(adata.n_obs, dtype=np.int64), ("",)
    names, codes = np.unique(adata.obs[batch_key].to_numpy(dtype=str), return_inverse=True)
    return codes, tuple(str(n) for n in names)
