"""The three heavy terms of a step as PyTorch functions whose gradients are formed at once.

On the CPU in single precision each is one call of a compiled loop (``kernels.py``) between two
matrix products; elsewhere the plain forms serve (``likelihoods.py``, ``model.py``), which the
tests compare these with. Values and gradients come in one sweep, so the way back only scales.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cellweave_glue import kernels

if TYPE_CHECKING:
    from torch import Tensor

    from cellweave_glue.edges import EdgeBatch
    from cellweave_glue.sparse import RowBatch

__all__ = ["applies", "edge_loss", "nb_loss", "sampled_posterior"]


def applies(*tensors: Tensor) -> bool:
    """Tell whether the compiled loops take these tensors."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def _values(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


class _NegativeBinomial(torch.autograd.Function):
    """NB of counts with mean ``library * softmax(scale * u v^T + bias)``."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        v: Tensor,
        scale: Tensor,
        bias: Tensor,
        log_theta: Tensor,
        batch: Tensor,
        log_library: Tensor,
        counts: RowBatch,
    ) -> Tensor:
        """Return the mean loss, and keep the gradients."""
        cells, features = _values(u), _values(v)
        raw = cells @ features.T
        by_scale, by_bias, by_theta = (np.zeros(scale.shape, dtype=np.float32) for _ in range(3))
        source = counts.source
        loss = kernels.nb_sweep(
            raw,
            _values(scale),
            _values(bias),
            np.exp(_values(log_theta)),
            _values(batch),
            np.exp(_values(log_library)),
            _values(counts.index),
            _values(source.indptr),
            _values(source.indices),
            _values(source.values),
            by_scale,
            by_bias,
            by_theta,
        )
        ctx.gradients = (raw @ features, raw.T @ cells, by_scale, by_bias, by_theta)
        ctx.n = raw.size
        return u.new_tensor(loss / raw.size)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the kept gradients."""
        factor = np.float32(float(upstream) / ctx.n)
        return (*(torch.from_numpy(g * factor) for g in ctx.gradients), None, None, None)


def nb_loss(
    u: Tensor,
    v: Tensor,
    *,
    scale: Tensor,
    bias: Tensor,
    log_theta: Tensor,
    batch: Tensor,
    log_library: Tensor,
    counts: RowBatch,
) -> Tensor:
    """Return the mean NB loss over cells and features.

    Parameters
    ----------
    u, v
        Cell and feature vectors.
    scale, bias, log_theta
        ``(n_batches, n_features)``.
    batch, log_library
        Of each cell.
    counts
        The cells' counts.
    """
    out: Tensor = _NegativeBinomial.apply(  # type: ignore[no-untyped-call]
        u, v, scale, bias, log_theta, batch, log_library, counts
    )
    return out


class _SampledPosterior(torch.autograd.Function):
    """A draw from the posterior of all feature vectors, and its divergence from the prior."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, noise: Tensor, floor: float
    ) -> tuple[Tensor, Tensor]:
        """Return the draw and the divergence summed over all entries."""
        rows, layer, drawn = _values(hidden), _values(weight), _values(noise)
        both = rows @ layer.T
        sample = np.empty_like(drawn)
        ctx.floor = np.float32(floor)
        total = kernels.posterior_forward(both, _values(bias), drawn, ctx.floor, sample)
        ctx.kept = (rows, layer, both, drawn)
        return torch.from_numpy(sample), hidden.new_tensor(total)

    @staticmethod
    def backward(ctx: Any, by_sample: Tensor, by_divergence: Tensor) -> tuple[Tensor | None, ...]:
        """Carry both gradients through the draw and the layer."""
        rows, layer, both, drawn = ctx.kept
        slopes = np.empty_like(both)
        factor = np.float32(float(by_divergence))
        kernels.posterior_backward(both, drawn, ctx.floor, _values(by_sample), factor, slopes)
        found = (slopes @ layer, slopes.T @ rows, slopes.sum(0))
        return (*(torch.from_numpy(g) for g in found), None, None)


def sampled_posterior(
    hidden: Tensor, weight: Tensor, bias: Tensor, noise: Tensor, *, floor: float
) -> tuple[Tensor, Tensor]:
    """Return ``mean + (softplus(raw) + floor) * noise`` and KL from the standard normal.

    ``mean`` and ``raw`` are the halves of ``hidden @ weight.T + bias``.
    """
    sample, divergence = _SampledPosterior.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, noise, floor
    )
    return sample, divergence


class _EdgeLoss(torch.autograd.Function):
    """Cross entropy of telling edges from what is none."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, edges: EdgeBatch) -> Tensor:
        """Return the loss, and keep the gradient."""
        values = _values(vectors)
        ctx.gradient = np.zeros_like(values)
        loss = kernels.edge_sweep(
            values,
            _values(edges.sources),
            _values(edges.targets),
            _values(edges.signs),
            edges.n_positive,
            ctx.gradient,
        )
        return vectors.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """Scale the kept gradient."""
        return torch.from_numpy(ctx.gradient * np.float32(float(upstream))), None


def edge_loss(vectors: Tensor, edges: EdgeBatch) -> Tensor:
    """Return the mean loss of edges and of negatives, both weighing alike."""
    out: Tensor = _EdgeLoss.apply(vectors, edges)  # type: ignore[no-untyped-call]
    return out
