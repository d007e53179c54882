"""Standardised, clipped values without filling the zeros.

With ``z = clip((x − μ)/σ)`` every zero of a gene has one value ``o_g``; ``z = S + 1·oᵀ`` where
``S`` is as sparse as ``x``. Principal components centre their input, so those of ``S`` are those
of ``z``: the dense matrix of cells × genes is never made.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from cellweave_rna.variable_genes import moments

__all__ = ["sparse_scaled"]


def sparse_scaled(matrix: sp.csr_matrix, *, clip: float) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return ``S`` (float64 CSR) and ``o`` so that ``S + o`` is the scaled, clipped matrix.

    Parameters
    ----------
    matrix
        ``(n_cells, n_genes)``, log-normalised.
    clip
        Largest absolute value after scaling.
    """
    mean, variance = moments(matrix)
    spread = np.sqrt(variance)
    spread[spread == 0] = 1.0
    offset = np.clip(-mean / spread, -clip, clip)
    columns = matrix.indices
    scaled = (matrix.data.astype(np.float64) - mean[columns]) / spread[columns]
    data = np.clip(scaled, -clip, clip) - offset[columns]
    return sp.csr_matrix((data, columns, matrix.indptr), shape=matrix.shape), offset
