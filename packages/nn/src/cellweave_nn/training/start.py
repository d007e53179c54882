"""Where training starts: embeddings of genes from how they go together, not from chance.

As scBERT starts from gene2vec (Du et al. 2019; Yang et al. 2022), with the plainer method that
Levy and Goldberg (2014) showed to do the same: factors of the matrix of cells by genes,

    M = diag(1/‖x‖) X,  M ≈ U S Vᵀ,  E = V √(D G) / ‖V‖   for G genes and D features,

with X the values of the tokens. Cells pooled by value from the residual stream then start as
U S, the principal components of the data, and training goes on from there.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from cellweave.errors import ConfigError
from cellweave.records import Tokens
from cellweave_nn.encoders.inputs import TokenInput
from cellweave_nn.layers.embedding import ContinuousValues
from cellweave_nn.training.randomness import derived_seed

__all__ = ["can_start_from_factors", "gene_factors", "start_from_factors"]

_CELLS = 8000
_OVERSAMPLING, _POWERS = 10, 3
# Embeddings of values are almost the same for all tokens, and would drown those of genes.
_SHARE_OF_VALUES = 0.1


def can_start_from_factors(encoder: nn.Module, tokens: Tokens) -> bool:
    """Tell whether the encoder pools cells so that factors of genes are of use to it."""
    pools = getattr(encoder, "cell_norm", None) is not None
    return pools and isinstance(encoder.input, TokenInput) and tokens.values is not None


@torch.no_grad()
def start_from_factors(encoder: nn.Module, tokens: Tokens, *, seed: int) -> None:
    """Replace the embeddings of those tokens that cells have, and make values quieter."""
    if not can_start_from_factors(encoder, tokens):
        msg = (
            "start is 'factors', but the encoder cannot start from them: it takes a transformer "
            "with residual_pooling=True and a tokenizer that gives values. Use start='random'."
        )
        raise ConfigError(msg)
    inputs = encoder.input
    assert isinstance(inputs, TokenInput)
    table = inputs.tokens.table.weight
    factors = gene_factors(tokens, n_ids=len(table), width=table.shape[1], seed=seed)
    found = torch.from_numpy(factors).to(table)
    table.copy_(torch.where(found.any(1, keepdim=True), found, table))
    if isinstance(inputs.values, ContinuousValues):
        inputs.values.norm.weight.mul_(_SHARE_OF_VALUES)


def gene_factors(tokens: Tokens, *, n_ids: int, width: int, seed: int) -> np.ndarray:
    """Return ``(n_ids, width)`` factors of the tokens, mean square 1 over those that occur.

    Up to 8 000 cells are read, drawn by ``seed``; fewer factors than ``width`` leave zeros.
    """
    rng = np.random.default_rng(derived_seed(seed, "factors"))
    matrix = _unit_cells(_drawn(tokens, rng), n_ids)
    right = _right_factors(matrix, min(width, *matrix.shape), rng)
    factors = np.zeros((n_ids, width), dtype=np.float32)
    factors[:, : right.shape[1]] = right
    occurs = np.bincount(matrix.indices, minlength=n_ids) > 0
    factors[~occurs] = 0.0
    return factors / max(np.sqrt(np.square(factors[occurs]).mean()), 1e-12)


def _drawn(tokens: Tokens, rng: np.random.Generator) -> Tokens:
    if tokens.n_cells <= _CELLS:
        return tokens
    return tokens.take(np.sort(rng.choice(tokens.n_cells, _CELLS, replace=False)))


def _unit_cells(tokens: Tokens, n_ids: int) -> sp.csr_matrix:
    assert tokens.values is not None
    values = tokens.values.astype(np.float32)
    matrix = sp.csr_matrix((values, tokens.ids, tokens.offsets), shape=(tokens.n_cells, n_ids))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return sp.csr_matrix(sp.diags((1 / np.maximum(lengths, 1e-12)).astype(np.float32)) @ matrix)


def _right_factors(matrix: sp.csr_matrix, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return right singular vectors by block power iteration (Halko et al. 2011)."""
    size = min(width + _OVERSAMPLING, *matrix.shape)
    basis = rng.standard_normal((matrix.shape[1], size)).astype(np.float32)
    transposed = matrix.T.tocsr()
    for _ in range(_POWERS):
        basis = np.linalg.qr(transposed @ (matrix @ basis))[0]
    seen = (matrix @ basis).astype(np.float64)
    _, vectors = np.linalg.eigh(seen.T @ seen)
    right: np.ndarray = (basis @ vectors[:, ::-1][:, :width]).astype(np.float32)
    return right
