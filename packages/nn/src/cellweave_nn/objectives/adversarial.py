"""Forget the batch: a discriminator whose gradient is reversed (DAR).

Ganin et al. 2016; Cui et al. 2024:

    L = CE(discriminator(R_λ(cell state)), batch),  R_λ is the identity with gradient −λ
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from cellweave.errors import DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["AdversarialBatch", "context_codes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdversarialBatch:
    """Make the batch unreadable from the cell's state.

    Parameters
    ----------
    n_batches
        Number of batches.
    key
        Name of the per-cell context that holds the batch code.
    strength
        λ.
    """

    n_batches: int
    key: str = "batch"
    strength: float = 1.0

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the discriminator."""
        width = shape.cell_width
        layers = (nn.Linear(width, width), nn.LeakyReLU(), nn.LayerNorm(width))
        return {"domain": nn.Sequential(*layers, nn.Linear(width, self.n_batches))}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide nothing."""
        return Corrupted(batch=batch, targets={})

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the discriminator's cross-entropy."""
        codes = context_codes(corrupted.batch, self.key, self.n_batches, who="nn.adversarial")
        reversed_: torch.Tensor = _Reverse.apply(  # type: ignore[no-untyped-call]
            outputs.cell_state, self.strength
        )
        return {"adversarial": F.cross_entropy(outputs.heads["domain"](reversed_).float(), codes)}


def context_codes(batch: TokenBatch, key: str, n: int, *, who: str) -> torch.Tensor:
    """Return per-cell codes from 0 to ``n − 1``, or −100 where a code is negative (unknown)."""
    if key not in batch.context:
        known = ", ".join(sorted(batch.context)) or "none"
        msg = f"{who} needs the per-cell context {key!r}; there is: {known}. Tokenize with it."
        raise DataError(msg)
    codes = batch.context[key].to(torch.int64)
    if len(codes) and int(codes.max()) >= n:
        msg = f"{who} found code {int(codes.max())} in {key!r} but was built for {n} codes."
        raise DataError(msg)
    return torch.where(codes < 0, -100, codes)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.strength * grads[0], None
