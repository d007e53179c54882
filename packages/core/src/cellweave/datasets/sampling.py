"""Random numbers by place, not by turn, and fast draws of sparse counts."""

from __future__ import annotations

import zlib

import numpy as np
import scipy.sparse as sp

__all__ = ["CHUNK", "negative_binomial", "stream", "thinned"]

# Cells are always drawn in chunks of this size, each from a generator of its own, so that the
# data depend neither on the size of a block nor on how many cells follow.
CHUNK = 256
_FEW = 30.0


def stream(seed: int, purpose: str, chunk: int = 0) -> np.random.Generator:
    """Return the generator that belongs to a purpose and a chunk of cells."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), chunk])


def negative_binomial(
    means: np.ndarray, dispersion: np.ndarray | float, rng: np.random.Generator
) -> sp.csr_matrix:
    """Draw counts of variance ``mean + mean² / dispersion``, as CSR of float32.

    One uniform an entry is compared with the chance of a zero; only entries that are not zero
    are followed further, by inversion where the mean is small, else as a gamma-Poisson draw.
    """
    theta = np.broadcast_to(np.asarray(dispersion, dtype=np.float32), means.shape)
    uniform = rng.random(means.shape, dtype=np.float32)
    of_zero = np.exp(-theta * np.log1p(means / theta))
    rows, cols = np.nonzero(uniform >= of_zero)
    mean, theta_of = means[rows, cols].astype(float), theta[rows, cols].astype(float)
    counts = np.ones(len(mean), dtype=np.float32)
    few = mean <= _FEW
    counts[few] = _inverted(uniform[rows, cols][few], mean[few], theta_of[few])
    many = ~few
    rates = rng.standard_gamma(theta_of[many]) * mean[many] / theta_of[many]
    # The zero was already decided against, so a zero of the second draw becomes a one.
    counts[many] = np.maximum(rng.poisson(rates), 1)
    matrix = sp.csr_matrix((counts, (rows, cols)), shape=means.shape, dtype=np.float32)
    matrix.sort_indices()
    return matrix


def thinned(matrix: sp.csr_matrix, dropout: float, rng: np.random.Generator) -> sp.csr_matrix:
    """Lose each stored value with chance ``dropout``."""
    if dropout == 0:
        return matrix
    matrix.data[rng.random(matrix.nnz) < dropout] = 0
    matrix.eliminate_zeros()
    return matrix


def _inverted(uniform: np.ndarray, mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Follow the distribution function upwards until it passes ``uniform``."""
    counts = np.ones(len(mean), dtype=np.float32)
    step = mean / (mean + theta)
    mass = np.exp(-theta * np.log1p(mean / theta))
    total = mass.copy()
    mass = mass * theta * step
    total += mass
    active = np.flatnonzero(uniform >= total)
    k = 1
    while len(active) and k < 2000:
        mass[active] *= (k + theta[active]) / (k + 1) * step[active]
        total[active] += mass[active]
        k += 1
        counts[active] = k
        active = active[uniform[active] >= total[active]]
    return counts
