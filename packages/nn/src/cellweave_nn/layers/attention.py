"""Self-attention: projections around a kernel, on padded or packed rows alike.

Parameters are named ``qkv`` (fused: rows q, k, v, each head-major, the order of torch's
``in_proj``) or ``query``, ``key``, ``value``, and ``out``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cellweave.errors import ConfigError
from cellweave_nn.layers.kernels import FullAttention, attend_first, attention_weights
from cellweave_nn.layers.layout import Layout, first_of
from cellweave_nn.layers.rotary import rotate
from cellweave_nn.layers.tags import NO_TAGS, Tags

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """Let the tokens of a cell exchange information.

    Parameters
    ----------
    width
        D, the features of a row.
    heads
        H.
    head_width
        K; ``width // heads`` when not given.
    fused
        One projection for q, k and v, or three.
    bias, out_bias
        Whether the projections have a bias.
    rotary
        Whether places rotate queries and keys.
    project_unknown
        ``False`` leaves the rows of unknown tokens without the output projection, as the
        published scGPT pretraining does.
    kernel
        How queries meet keys; full attention when not given.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int | None = None,
        fused: bool = True,
        bias: bool = True,
        out_bias: bool = True,
        rotary: bool = False,
        project_unknown: bool = True,
        kernel: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if head_width is None and width % heads:
            msg = f"Width {width} does not divide by {heads} heads. Choose a multiple of `heads`."
            raise ConfigError(msg)
        self.heads = heads
        self.head_width = head_width or width // heads
        self.rotary = rotary
        self.project_unknown = project_unknown
        inner = heads * self.head_width
        self.qkv = nn.Linear(width, 3 * inner, bias=bias) if fused else None
        if not fused:
            self.query = nn.Linear(width, inner, bias=bias)
            self.key = nn.Linear(width, inner, bias=bias)
            self.value = nn.Linear(width, inner, bias=bias)
        self.out = nn.Linear(inner, width, bias=out_bias)
        self.kernel = kernel if kernel is not None else FullAttention()

    def forward(
        self,
        x: torch.Tensor,
        layout: Layout,
        tags: Tags = NO_TAGS,
        *,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map ``(…, D)`` to ``(…, D)``; rows of one cell meet, as ``layout`` says."""
        q, k, v = self.project(x, tags)
        extra = {} if bias is None else {"bias": bias}
        mixed = self.kernel(q, k, v, layout, tags, **extra).flatten(-2)
        projected: torch.Tensor = self.out(mixed)
        if self.project_unknown or tags.known is None:
            return projected
        return torch.where(tags.known.unsqueeze(-1), projected, mixed)

    @property
    def is_plain(self) -> bool:
        """Tell whether every token sees every other of its cell, whatever its place."""
        full = isinstance(self.kernel, FullAttention) and not self.kernel.causal
        return full and not self.rotary and self.project_unknown

    def of_first(self, x: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return what :meth:`forward` gives at the first row of each cell, ``(N, D)``."""
        first = first_of(x, layout)
        if self.qkv is None:
            q, k, v = self.query(first), self.key(x), self.value(x)
        else:
            inner = self.heads * self.head_width
            bias: torch.Tensor | None = self.qkv.bias
            own, others = (None, None) if bias is None else (bias[:inner], bias[inner:])
            q = F.linear(first, self.qkv.weight[:inner], own)
            kv = F.linear(x, self.qkv.weight[inner:], others)
            k, v = kv.chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, self.head_width)) for part in (q, k, v))
        mixed = attend_first(q, k, v, layout)
        out: torch.Tensor = self.out(mixed.flatten(-2))
        return out

    def project(
        self, x: torch.Tensor, tags: Tags = NO_TAGS
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values, ``(…, H, K)`` each."""
        if self.qkv is not None:
            parts = self.qkv(x).chunk(3, dim=-1)
        else:
            parts = (self.query(x), self.key(x), self.value(x))
        q, k, v = (part.unflatten(-1, (self.heads, self.head_width)) for part in parts)
        if self.rotary and tags.places is not None:
            q, k = rotate(q, tags.places), rotate(k, tags.places)
        return q, k, v

    def weights(
        self, x: torch.Tensor, layout: Layout, tags: Tags = NO_TAGS
    ) -> tuple[torch.Tensor, ...]:
        """Return the softmax weights, one ``(H, length, length)`` tensor a cell."""
        q, k, _ = self.project(x, tags)
        return attention_weights(q, k, layout, causal=getattr(self.kernel, "causal", False))
