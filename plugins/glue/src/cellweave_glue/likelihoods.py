"""Negative log-likelihoods of the data decoders, each a mean over cells and features.

These are the plain forms. A fit spends its time in the negative binomial, which therefore has a
fused form as well (``fused.py``); everything here serves on any device and in any precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from cellweave_glue.sparse import RowBatch

__all__ = [
    "bernoulli_loss",
    "bounded",
    "mixture_loss",
    "nb_loss",
    "nb_terms",
    "normal_loss",
    "zinb_loss",
]

_MIN_LOG_THETA, _MAX_LOG_THETA = -15.0, 15.0


def bounded(log_theta: Tensor) -> Tensor:
    """Return log dispersions within the range that single precision can tell apart."""
    return log_theta.clamp(_MIN_LOG_THETA, _MAX_LOG_THETA)


def nb_loss(logits: Tensor, log_theta: Tensor, log_library: Tensor, counts: RowBatch) -> Tensor:
    """Return the NB loss with mean ``exp(log_library) * softmax(logits)``.

    Parameters
    ----------
    logits
        ``(n_cells, n_features)`` before the softmax.
    log_theta
        ``(n_features,)`` or one row a cell.
    log_library
        ``(n_cells,)``.
    counts
        The cells' counts.
    """
    log_mean = torch.log_softmax(logits, 1) + log_library[:, None]
    return -nb_terms(counts.dense(), log_mean, log_theta).mean()


def nb_terms(x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Return the dense NB log-likelihood of every entry."""
    log_theta = bounded(log_theta)
    theta = log_theta.exp()
    soft = functional.softplus(log_mean - log_theta)
    gammas = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    return gammas + x * (log_mean - log_theta) - (theta + x) * soft


def zinb_loss(
    logits: Tensor, log_theta: Tensor, log_library: Tensor, zero_logits: Tensor, counts: RowBatch
) -> Tensor:
    """Return the zero-inflated NB loss; ``zero_logits`` are the odds of a zero by dropout."""
    x = counts.dense()
    log_nb = nb_terms(x, torch.log_softmax(logits, 1) + log_library[:, None], log_theta)
    zero_logits = zero_logits.expand_as(log_nb)
    at_zero = torch.logaddexp(log_nb, zero_logits)
    terms = torch.where(x == 0, at_zero, log_nb) - functional.softplus(zero_logits)
    return -terms.mean()


def mixture_loss(
    logits: Tensor,
    second_logits: Tensor,
    log_theta: Tensor,
    log_library: Tensor,
    counts: RowBatch,
) -> Tensor:
    """Return the loss of a mixture of two NB (background and foreground) with shared dispersion."""
    x = counts.dense()
    library = log_library[:, None]
    first = nb_terms(x, torch.log_softmax(logits, 1) + library, log_theta)
    second = nb_terms(x, torch.log_softmax(second_logits, 1) + library, log_theta)
    which = torch.log_softmax(torch.stack([logits, second_logits]), 0)
    return -torch.logsumexp(torch.stack([first, second]) + which, 0).mean()


def normal_loss(mean: Tensor, raw_scale: Tensor, values: Tensor) -> Tensor:
    """Return the Normal loss with standard deviation ``softplus(raw_scale)``."""
    scale = functional.softplus(raw_scale) + 1e-3
    z = (values - mean) / scale
    return (0.5 * z * z + scale.log() + 0.9189385332046727).mean()


def bernoulli_loss(logits: Tensor, values: Tensor) -> Tensor:
    """Return the Bernoulli loss; a value above zero counts as one."""
    return functional.binary_cross_entropy_with_logits(logits, (values > 0).to(logits.dtype))
