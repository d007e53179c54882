"""Negative log-likelihoods of the data decoders, each a mean over cells and features.

The negative binomial is where a fit spends its time. With mean mu and inverse dispersion theta

    -log NB(x) = theta log(1 + mu/theta)                                  (every entry)
               + x [log(1 + mu/theta) - log(mu/theta)] + lgamma terms     (x > 0 only)

so the expensive functions run over the non-zero entries alone, and the gradient, which is as
cheap as the value, is formed in the same sweep over blocks of cells that fit the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from cellweave_glue.sparse import RowBatch

__all__ = ["bernoulli_loss", "mixture_loss", "nb_loss", "nb_terms", "normal_loss", "zinb_loss"]

_EPS = 1e-7
_CACHED_ENTRIES = 1 << 18
_MIN_LOG_THETA, _MAX_LOG_THETA = -15.0, 15.0


class _NegativeBinomial(torch.autograd.Function):
    """NB with mean ``library * softmax(logits)``; value and gradients in one sweep."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        log_theta: Tensor,
        log_library: Tensor,
        counts: RowBatch,
    ) -> Tensor:
        """Return the mean loss, and keep the gradients."""
        log_theta = log_theta.clamp(_MIN_LOG_THETA, _MAX_LOG_THETA)
        grad = torch.empty_like(logits)
        grad_theta = torch.zeros_like(log_theta)
        total = logits.new_zeros((), dtype=torch.float64)
        for start, stop, first, last in _row_bounds(counts):
            rows = slice(start, stop)
            per_cell = log_theta.dim() == 2
            total += _nb_block(
                logits[rows],
                log_theta[rows] if per_cell else log_theta,
                log_library[rows],
                (counts.rows[first:last] - start, counts.cols[first:last]),
                counts.values[first:last],
                grad[rows],
                grad_theta[rows] if per_cell else grad_theta,
            )
        ctx.save_for_backward(grad, grad_theta)
        ctx.n = logits.numel()
        return (total / ctx.n).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Scale the kept gradients."""
        grad, grad_theta = ctx.saved_tensors
        scale = upstream / ctx.n
        return grad * scale, grad_theta * scale, None, None


def _row_bounds(counts: RowBatch) -> list[tuple[int, int, int, int]]:
    """Cut the batch into blocks of rows: (row start, row stop, entry start, entry stop)."""
    n_rows, n_cols = counts.shape
    on_cpu = counts.rows.device.type == "cpu"
    step = max(1, _CACHED_ENTRIES // max(n_cols, 1)) if on_cpu else n_rows
    starts = [*range(0, n_rows, step), n_rows]
    edges = torch.searchsorted(counts.rows, torch.tensor(starts, device=counts.rows.device))
    at: list[int] = edges.tolist()
    return list(zip(starts[:-1], starts[1:], at[:-1], at[1:]))


def _nb_block(
    logits: Tensor,
    log_theta: Tensor,
    log_library: Tensor,
    at: tuple[Tensor, Tensor],
    x: Tensor,
    grad: Tensor,
    grad_theta: Tensor,
) -> Tensor:
    """Return the summed loss of some cells; fill ``grad``, add to ``grad_theta``.

    With r = mu / theta and odds = r / (1 + r), the gradient by log mu is ``theta odds`` less
    ``x (1 - odds)``, that by log theta is ``theta (log(1 + r) - odds)`` plus the terms of x > 0.
    """
    rows, cols = at
    shared = log_theta.dim() == 1
    theta = log_theta.exp()
    top = logits.amax(1, keepdim=True)
    weights = torch.sub(logits, top).exp_()
    norm = weights.sum(1, keepdim=True)
    ratio = torch.mul(weights, log_library.exp()[:, None] / norm).mul_(torch.exp(-log_theta))
    soft = torch.log1p(ratio)
    torch.div(ratio, ratio + 1, out=ratio)  # now the odds
    theta_at = theta[cols] if shared else theta[at]
    log_theta_at = theta_at.log()
    odds_at, soft_at = ratio[at], soft[at]
    log_mean_at = logits[at] + (log_library[:, None] - top - norm.log()).squeeze(1)[rows]
    rest = x * (1 - odds_at)
    torch.mul(ratio, theta, out=grad)
    grad.index_put_(at, -rest, accumulate=True)
    extra = rest - theta_at * (torch.digamma(x + theta_at) - torch.digamma(theta_at))
    if shared:
        value = (soft.sum(0, dtype=torch.float64) * theta).sum()
        grad_theta.addcmul_(soft.sum(0) - ratio.sum(0), theta).index_add_(0, cols, extra)
    else:
        value = (soft * theta).sum(dtype=torch.float64)
        grad_theta.add_(torch.sub(soft, ratio).mul_(theta))
        grad_theta.index_put_(at, extra, accumulate=True)
    grad.addcmul_(weights, -grad.sum(1, keepdim=True) / norm)
    gammas = torch.lgamma(theta_at) + torch.lgamma(x + 1) - torch.lgamma(x + theta_at)
    at_counts = x * (soft_at - log_mean_at + log_theta_at) + gammas
    return value + at_counts.sum(dtype=torch.float64)


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
    out: Tensor = _NegativeBinomial.apply(  # type: ignore[no-untyped-call]
        logits, log_theta, log_library, counts
    )
    return out


def nb_terms(x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Return the dense NB log-likelihood of every entry."""
    log_theta = log_theta.clamp(_MIN_LOG_THETA, _MAX_LOG_THETA)
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
