"""Standardised, clipped values without filling the zeros.

With ``z = clip((x − μ)/σ)`` every zero of a gene has one value ``o_g``; ``z = S + 1·oᵀ`` where
``S`` is as sparse as ``x``. Principal components centre their input, so those of ``S`` are those
of ``z``: the dense matrix of cells × genes is never made.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from cellweave.preparing import map_rows
from cellweave_rna.variable_genes import moments

__all__ = ["sparse_scaled"]


def sparse_scaled(matrix: Any, *, clip: float) -> tuple[Any, np.ndarray]:
    """Return ``S`` (float64 CSR) and ``o`` so that ``S + o`` is the scaled, clipped matrix.

    Parameters
    ----------
    matrix
        ``(n_cells, n_genes)``, log-normalised; CSR, or a Dask array of CSR blocks, which gives
        such an array back.
    clip
        Largest absolute value after scaling.
    """
    mean, variance = moments(matrix)
    spread = np.sqrt(variance)
    spread[spread == 0] = 1.0
    offset = np.clip(-mean / spread, -clip, clip)
    scale = partial(_scaled, mean=mean, spread=spread, offset=offset, clip=clip)
    return map_rows(scale, matrix), offset


def _scaled(
    block: sp.csr_matrix, *, mean: np.ndarray, spread: np.ndarray, offset: np.ndarray, clip: float
) -> sp.csr_matrix:
    columns = block.indices
    values = (block.data.astype(np.float64) - mean[columns]) / spread[columns]
    data = np.clip(values, -clip, clip) - offset[columns]
    return sp.csr_matrix((data, columns, block.indptr), shape=block.shape)
