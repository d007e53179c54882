"""The loss terms of scMODAL, each by matrix products: no (B, B, P) array is ever made."""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = ["discriminator_loss", "geometry_loss", "mnn_loss", "mutual_neighbours"]


def discriminator_loss(logit_first: torch.Tensor, logit_second: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of telling first from second."""
    return F.softplus(-logit_first).mean() + F.softplus(logit_second).mean()


def geometry_loss(x_BP: torch.Tensor, z_BM: torch.Tensor) -> torch.Tensor:
    """Return minus the mean row correlation between the kernels of input and latent space.

    A cell's kernel to itself is left out, and so is the level that all rows share: with them the
    rows are alike whatever the latent space looks like, and the term says nothing.
    """
    cosine = F.cosine_similarity(_to_others(_kernel(x_BP)), _to_others(_kernel(z_BM)), dim=1)
    return -cosine.mean()


def _to_others(kernel_BB: torch.Tensor) -> torch.Tensor:
    """Return rows without their diagonal entry, less the mean of the rest."""
    other = 1 - torch.eye(len(kernel_BB), device=kernel_BB.device, dtype=kernel_BB.dtype)
    kernel = kernel_BB * other
    return (kernel - kernel.sum(1, keepdim=True) / max(len(kernel) - 1, 1)) * other


def _kernel(x_BP: torch.Tensor) -> torch.Tensor:
    return torch.exp(-_mean_squares(x_BP, x_BP) / 2)


def _mean_squares(a_BP: torch.Tensor, b_CP: torch.Tensor) -> torch.Tensor:
    """Return ``mean((a_i - b_j)²)`` over coordinates, by the Gram form."""
    squares = a_BP.square().sum(1)[:, None] + b_CP.square().sum(1)[None, :] - 2 * a_BP @ b_CP.T
    return squares.clamp(min=0) / a_BP.shape[1]


def mutual_neighbours(
    linked_first: torch.Tensor, linked_second: torch.Tensor, k: int
) -> torch.Tensor:
    """Return the ``(B, C)`` 0/1 matrix of mutual ``k`` nearest neighbours by angle, exactly."""
    cosine = F.normalize(linked_first, dim=1) @ F.normalize(linked_second, dim=1).T
    k_rows, k_cols = min(k, cosine.shape[1]), min(k, cosine.shape[0])
    in_rows = torch.zeros_like(cosine).scatter_(1, cosine.topk(k_rows, dim=1).indices, 1.0)
    in_cols = torch.zeros_like(cosine).scatter_(0, cosine.topk(k_cols, dim=0).indices, 1.0)
    return in_rows * in_cols


def mnn_loss(z_first: torch.Tensor, z_second: torch.Tensor, mutual: torch.Tensor) -> torch.Tensor:
    """Return the mean squared latent distance of mutual neighbours; 0 when there are none."""
    total = (mutual * _mean_squares(z_first, z_second)).sum()
    return total / mutual.sum().clamp(min=1.0)
