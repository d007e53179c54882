"""Is the gene expressed at all: the zero head.

Cui et al. 2024, explicit zero probability. With p = σ(head(state)) at hidden places:

    L = −mean log Bernoulli(p)(v > 0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.drawing import chosen, masked_mean, target
from cellweave_nn.objectives.heads import HeadShape, ValueHead
from cellweave_nn.objectives.masked_value import hide_values
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["ZeroInflated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroInflated:
    """Predict whether hidden values are zero.

    Parameters
    ----------
    fraction
        Share of values it hides itself; 0 uses what another objective hid.
    mask_value
        What stands in place of a hidden value.
    """

    fraction: float = 0.0
    mask_value: float = -1.0

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the head whose sigmoid is the probability of not being zero."""
        return {"nonzero": ValueHead(shape.token_width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide values, or nothing."""
        if not self.fraction:
            return Corrupted(batch=batch, targets={})
        return hide_values(batch, chosen(batch, self.fraction, generator), self.mask_value)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the binary cross-entropy at hidden places."""
        hidden = target(corrupted.targets, "value_mask", who="nn.zero_inflated")
        values = target(corrupted.targets, "values", who="nn.zero_inflated")
        at = hidden.nonzero().squeeze(1)
        logits = outputs.heads["nonzero"](outputs.token_states[at]).float()
        expressed = (values[at] > 0).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, expressed, reduction="none")
        return {"zero_inflated": masked_mean(loss, hidden[at])}
