"""Attention kernels: how queries, keys and values of shape ``(B, L, H, K)`` become one output.

A kernel is a module called as ``kernel(q, k, v, *extras, is_token)``; ``is_token`` is ``(B, L)``
or ``None`` when there is no padding. Padded queries give numbers nobody reads.

Papers: Vaswani et al. 2017; Dao 2022 (the memory-lean form behind torch's SDPA).
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.layers.layout import Layout, Packed
from cellweave_nn.layers.ragged import pad
from cellweave_nn.layers.tags import Tags

__all__ = ["FullAttention", "attend_first", "attention_weights"]


class FullAttention(nn.Module):
    """Let every token see every token of its cell, or only earlier ones when ``causal``.

    out_i = Σ_j softmax_j(q_i·k_j / √K) v_j
    """

    def __init__(self, *, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal = causal
        self.dropout = dropout

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layout: Layout,
        tags: Tags,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend within each cell; ``bias`` is added to the logits of a padded layout."""
        dropout = self.dropout if self.training else 0.0
        if isinstance(layout, Packed) and _has_varlen(q, dropout):
            return _varlen(q, k, v, layout, causal=self.causal)

        def attend(
            q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_token: torch.Tensor | None
        ) -> torch.Tensor:
            mask = _mask(is_token, bias, q, causal=self.causal)
            out = F.scaled_dot_product_attention(
                q.transpose(1, 2),
                k.transpose(1, 2),
                v.transpose(1, 2),
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=self.causal and mask is None,
            )
            return out.transpose(1, 2)

        return layout.map(attend, q, k, v)


def attend_first(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return what full attention gives for one query a cell, ``q`` of shape ``(N, H, K)``."""
    is_token = None
    if isinstance(layout, Packed):
        if min(layout.lengths) < max(layout.lengths):
            ones = torch.ones(len(k), dtype=torch.bool, device=k.device)
            is_token = pad(ones, layout.lengths)
        k, v = pad(k, layout.lengths), pad(v, layout.lengths)
    else:
        is_token = layout.is_token
    mask = None if is_token is None else is_token[:, None, None, :]
    out = F.scaled_dot_product_attention(
        q.unsqueeze(2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask
    )
    return out.squeeze(2)


def attention_weights(
    q: torch.Tensor, k: torch.Tensor, layout: Layout, *, causal: bool = False
) -> tuple[torch.Tensor, ...]:
    """Return the softmax weights of each cell, ``(H, length, length)``, one cell at a time."""
    pieces = []
    for rows in _rows_of_cells(q, layout):
        q_lhk, k_lhk = (t[rows] for t in (q, k))
        scores = torch.einsum("ihk,jhk->hij", q_lhk, k_lhk) * q.shape[-1] ** -0.5
        if causal:
            later = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        pieces.append(scores.softmax(-1))
    return tuple(pieces)


def _rows_of_cells(q: torch.Tensor, layout: Layout) -> list:
    if isinstance(layout, Packed):
        ends = layout.offsets.tolist()
        return [slice(start, end) for start, end in pairwise(ends)]
    if layout.is_token is None:
        return list(range(len(q)))
    counts = layout.is_token.sum(1).tolist()
    return [(i, slice(0, n)) for i, n in enumerate(counts)]


def _mask(
    is_token: torch.Tensor | None, bias: torch.Tensor | None, q: torch.Tensor, *, causal: bool
) -> torch.Tensor | None:
    """Combine padding, causality and bias; ``None`` where the fast path needs no mask."""
    if is_token is None and bias is None:
        return None
    length = q.shape[1]
    allowed = torch.ones(1, 1, 1, length, dtype=torch.bool, device=q.device)
    if is_token is not None:
        allowed = is_token[:, None, None, :]
    if causal:
        earlier = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        allowed = allowed & earlier
    if bias is None:
        return allowed
    while bias.dim() < 4:
        bias = bias.unsqueeze(1)
    return bias.to(q.dtype).masked_fill(~allowed, float("-inf"))


def _has_varlen(q: torch.Tensor, dropout: float) -> bool:
    """Tell whether torch's ragged flash kernel can take these tensors."""
    half = q.dtype in (torch.float16, torch.bfloat16)
    width = q.shape[-1]
    if not (q.is_cuda and half and dropout == 0.0 and width <= 256 and width % 8 == 0):
        return False
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:  # only from torch 2.10
        return False
    return torch.cuda.get_device_capability(q.device) >= (8, 0)


def _varlen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Packed, *, causal: bool
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends = layout.offsets.to(torch.int32)
    longest = max(layout.lengths, default=0)
    window = (-1, 0) if causal else (-1, -1)
    out = varlen_attn(q, k, v, ends, ends, longest, longest, window_size=window)
    assert isinstance(out, torch.Tensor)
    return out
