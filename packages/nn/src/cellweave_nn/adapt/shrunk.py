"""The shapes of a smaller encoder: heads that are gone, weights of eight or sixteen bits.

A folder says which heads were removed and how its weights are kept, so that it can be built again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from cellweave.errors import ConfigError, StateMismatchError
from cellweave_nn.layers.attention import SelfAttention

__all__ = ["Int8Linear", "remove_heads", "reshaped", "to_int8"]

# torch's int8 product is right only for inner sizes that are multiples of this; narrower layers
# (such as the one that reads a single value) stay in float32 and cost next to nothing.
_STEP = 8


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


def reshaped(
    encoder: nn.Module, *, removed_heads: Mapping[str, Sequence[int]], precision: str
) -> None:
    """Give an encoder the shapes and types that a folder's weights have."""
    modules = dict(encoder.named_modules())
    for name, heads in removed_heads.items():
        layer = modules.get(name)
        if not isinstance(layer, SelfAttention):
            msg = f"`removed_heads` names {name!r}, which is no attention layer of this encoder. "
            raise StateMismatchError(msg + "The folder does not fit its own configuration.")
        remove_heads(layer, heads)
    if precision == "bf16":
        encoder.to(torch.bfloat16)
    elif precision == "int8":
        to_int8(encoder)


def to_int8(encoder: nn.Module) -> None:
    """Replace the linear layers that torch's int8 product can take."""
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.in_features % _STEP == 0:
                setattr(parent, name, Int8Linear(child))


@torch.no_grad()
def remove_heads(layer: SelfAttention, heads: Sequence[int]) -> None:
    """Take heads out of a layer: fewer rows in its projections, fewer columns in its output."""
    unknown = [h for h in heads if not 0 <= h < layer.heads]
    kept = [h for h in range(layer.heads) if h not in set(heads)]
    if unknown or not kept:
        msg = f"Cannot remove the heads {list(heads)} of {layer.heads}. At least one must stay."
        raise ConfigError(msg)
    if not layer.project_unknown:
        msg = "Heads cannot be removed where unknown tokens skip the output projection. "
        raise ConfigError(msg + "Set project_unknown=True to train such a model.")
    width = layer.head_width
    rows = torch.cat([torch.arange(h * width, (h + 1) * width) for h in kept])
    if layer.qkv is not None:
        inner = layer.heads * width
        layer.qkv = _rows_of(layer.qkv, torch.cat([rows, rows + inner, rows + 2 * inner]))
    else:
        layer.query, layer.key = _rows_of(layer.query, rows), _rows_of(layer.key, rows)
        layer.value = _rows_of(layer.value, rows)
    layer.out = _columns_of(layer.out, rows)
    layer.heads = len(kept)


def _rows_of(linear: nn.Linear, rows: torch.Tensor) -> nn.Linear:
    made = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, linear.in_features, len(rows), bias=isinstance(linear.bias, torch.Tensor)
    )
    made.weight.copy_(linear.weight[rows])
    if isinstance(linear.bias, torch.Tensor):
        made.bias.copy_(linear.bias[rows])
    return made


def _columns_of(linear: nn.Linear, columns: torch.Tensor) -> nn.Linear:
    made = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, len(columns), linear.out_features, bias=isinstance(linear.bias, torch.Tensor)
    )
    made.weight.copy_(linear.weight[:, columns])
    if isinstance(linear.bias, torch.Tensor):
        made.bias.copy_(linear.bias)
    return made


def _as_int8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127.0
    return (x / scale).round().clamp(-127, 127).to(torch.int8), scale
