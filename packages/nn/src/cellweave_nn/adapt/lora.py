"""Low-rank adapters (Hu et al. 2022): W x + (α/r) B A x, with W frozen and B zero at the start."""

from __future__ import annotations

import math

import torch
from torch import nn

from cellweave.errors import ConfigError

__all__ = ["LoRALinear", "add_lora", "merge_lora"]

TARGETS = ("qkv", "query", "key", "value", "out", "in_proj", "out_proj")


class LoRALinear(nn.Module):
    """A frozen linear layer and its adapter.

    Parameters
    ----------
    base
        The layer that is adapted.
    rank
        r.
    alpha
        α.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(…, in)`` to ``(…, out)``."""
        return self.base(x) + self.scale * nn.functional.linear(
            nn.functional.linear(x, self.a), self.b
        )

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return one plain layer that does the same."""
        self.base.weight += self.scale * self.b @ self.a
        return self.base


def add_lora(
    module: nn.Module, *, rank: int, alpha: float, targets: tuple[str, ...] = TARGETS
) -> int:
    """Freeze ``module`` and put adapters on its linear layers named in ``targets``; count them."""
    module.requires_grad_(requires_grad=False)
    found = [
        (parent, name)
        for parent in list(module.modules())
        for name, child in parent.named_children()
        if name in targets and isinstance(child, nn.Linear)
    ]
    if not found:
        msg = f"No linear layer is named {' or '.join(targets)}. Use mode='full' or 'last'."
        raise ConfigError(msg)
    for parent, name in found:
        setattr(parent, name, LoRALinear(getattr(parent, name), rank=rank, alpha=alpha))
    return len(found)


def merge_lora(module: nn.Module) -> None:
    """Fold every adapter into its layer."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())
