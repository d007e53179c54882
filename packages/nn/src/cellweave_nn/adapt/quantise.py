"""Smaller numbers for deployment: int8 weights with dynamic activations, or bf16.

Jacob et al. 2018. Each row of a weight has one scale, each row of an activation another, found
when it comes:

    W ≈ s_w · W₈,  x ≈ s_x · x₈;   y = s_w s_x (x₈ W₈ᵀ) + b,  the product in whole numbers
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from cellweave_nn.models.cell_model import CellModel

if TYPE_CHECKING:
    from anndata import AnnData

# torch's int8 product is right only for inner sizes that are multiples of this; narrower layers
# (such as the one that reads a single value) stay in float32 and cost next to nothing.
_STEP = 8

__all__ = ["AccuracyCost", "Int8Linear", "cost_of", "quantise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyCost:
    """Say what a smaller model loses: mean and lowest cosine of embeddings, and its bytes."""

    mean_cosine: float
    lowest_cosine: float
    bytes_before: int
    bytes_after: int


class Int8Linear(nn.Module):
    """A linear layer whose weight is int8."""

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = _as_int8(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        has_bias = isinstance(linear.bias, torch.Tensor)
        self.register_buffer("bias", linear.bias.detach().clone() if has_bias else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(…, in)`` to ``(…, out)``."""
        rows, scale = _as_int8(x.reshape(-1, x.shape[-1]))
        whole = torch._int_mm(rows, self.weight.T)  # noqa: SLF001 - torch's only int8 product
        out = whole.to(x.dtype) * scale * self.scale.T.to(x.dtype)
        out = out if self.bias is None else out + self.bias.to(x.dtype)
        return out.view(*x.shape[:-1], -1)


def quantise(model: CellModel, *, to: Literal["int8", "bf16"] = "int8") -> CellModel:
    """Return a smaller copy of a model for inference; the model itself stays as it is."""
    small = copy.deepcopy(model)
    if to == "bf16":
        small.encoder.to(torch.bfloat16)
        return small
    for parent in list(small.encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.in_features % _STEP == 0:
                setattr(parent, name, Int8Linear(child))
    return small


def cost_of(before: CellModel, after: CellModel, adata: AnnData) -> AccuracyCost:
    """Compare the embeddings of two models of one width."""
    a, b = (m.embed(adata).values.astype(np.float64) for m in (before, after))
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return AccuracyCost(
        mean_cosine=float(cosine.mean()),
        lowest_cosine=float(cosine.min()),
        bytes_before=_bytes(before.encoder),
        bytes_after=_bytes(after.encoder),
    )


def _as_int8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127.0
    return (x / scale).round().clamp(-127, 127).to(torch.int8), scale


def _bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)
