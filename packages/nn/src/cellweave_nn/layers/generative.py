"""Generative attention: known tokens see all known ones; an unknown one sees those and itself.

Cui et al. 2024 (scGPT) writes it as an L×L mask. Here it is exact without a mask:

    O, ℓ = attention over the known keys and its log-sum-exp
    w    = σ(q·k_self/√K − ℓ) for unknown queries, 0 for known ones
    out  = (1 − w) O + w v_self

The backward pass gives the flash kernel the merged output and the merged log-sum-exp, so the
gradient is exact as well (the identity behind ring attention, Liu et al. 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cellweave_nn.layers.kernels import FullAttention
from cellweave_nn.layers.layout import Layout
from cellweave_nn.layers.tags import Tags

__all__ = ["GenerativeAttention", "generative_attention"]


class GenerativeAttention(nn.Module):
    """Attend to known tokens and to oneself; without ``Tags.known`` all are known."""

    def __init__(self) -> None:
        super().__init__()
        self._all_known = FullAttention()

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, tags: Tags
    ) -> torch.Tensor:
        """Attend within each cell."""
        if tags.known is None:
            return self._all_known(q, k, v, layout, tags)
        return layout.map(generative_attention, q, k, v, tags.known)


def generative_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    known: torch.Tensor,
    is_token: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend as the module's docstring says; tensors ``(B, L, H, K)``, ``known`` ``(B, L)``."""
    known = known if is_token is None else known & is_token
    keys, values, mask = _known_only(k, v, known)
    query = q.transpose(1, 2)
    lonely = (~known.any(1))[:, None, None, None]
    k_self, v_self = k.transpose(1, 2), v.transpose(1, 2)
    merged = _merged(query, keys, values, k_self, v_self, ~known[:, None], mask)
    return torch.where(lonely, v_self, merged).transpose(1, 2)


def _known_only(
    k: torch.Tensor, v: torch.Tensor, known: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Gather the known keys to the left; a mask only where cells know different numbers."""
    counts = known.sum(1)
    most, least = max(int(counts.max()), 1), int(counts.min())
    order = (~known).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    cells = torch.arange(len(order), device=k.device)[:, None]
    keys, values = (t[cells, order].transpose(1, 2).contiguous() for t in (k, v))
    if least == most:
        return keys, values, None
    # A cell that knows nothing keeps one key, so that no softmax is empty; it is overruled.
    is_key = torch.arange(most, device=k.device) < counts.clamp_min(1)[:, None]
    mask = torch.zeros(is_key.shape, dtype=k.dtype, device=k.device)
    return keys, values, mask.masked_fill(~is_key, float("-inf"))[:, None, None, :]


def _merged(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    k_self: torch.Tensor,
    v_self: torch.Tensor,
    unknown: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    if q.device.type == "cpu" and q.dtype in (torch.float32, torch.float64, torch.bfloat16):
        out: torch.Tensor = _FlashMerge.apply(  # type: ignore[no-untyped-call]
            q, k, v, k_self, v_self, unknown, mask
        )
        return out
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    lse = scores.logsumexp(-1)
    weight = _self_weight(q, k_self, lse, unknown)
    return (1 - weight) * (scores.softmax(-1).to(v.dtype) @ v) + weight * v_self


def _self_weight(
    q: torch.Tensor, k_self: torch.Tensor, lse: torch.Tensor, unknown: torch.Tensor
) -> torch.Tensor:
    score = (q * k_self).sum(-1) * q.shape[-1] ** -0.5
    weight = torch.sigmoid(score.to(lse.dtype) - lse).masked_fill(~unknown, 0.0)
    return weight.unsqueeze(-1).to(q.dtype)


class _FlashMerge(torch.autograd.Function):
    """The CPU flash kernel, its log-sum-exp, and one more key a query."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        k_self: torch.Tensor,
        v_self: torch.Tensor,
        unknown: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - the op that gives the LSE
        mask = None if mask is None else mask.expand(*q.shape[:3], k.shape[2])
        out, lse = flash(q, k, v, 0.0, False, attn_mask=mask)
        weight = _self_weight(q, k_self, lse, unknown)
        merged = torch.lerp(out, v_self, weight)
        # log(e^ℓ + e^s) = ℓ − log(1 − w)
        total = lse - torch.log1p(-weight.squeeze(-1).to(lse.dtype))
        ctx.save_for_backward(q, k, v, k_self, v_self, merged, total, weight, mask)
        return merged

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, k_self, v_self, merged, total, weight, mask = ctx.saved_tensors
        grad = grads[0].contiguous()
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001
        d_q, d_k, d_v = backward(grad, q, k, v, merged, total, 0.0, False, attn_mask=mask)
        d_score = weight * ((grad * v_self).sum(-1, True) - (grad * merged).sum(-1, True))
        d_score = d_score * q.shape[-1] ** -0.5
        return d_q + d_score * k_self, d_k, d_v, d_score * q, weight * grad, None, None
