"""Masked value regression (GEP).

Cui et al. 2024 (scGPT fine-tuning): hide the values of some tokens, keep their genes:

    L = Σ_i m_i (head(state_i) − v_i)² / Σ_i m_i
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.drawing import chosen, masked_mean, values_of
from cellweave_nn.objectives.heads import HeadShape, ValueHead
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["MaskedValue", "hide_values", "value_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedValue:
    """Predict hidden values.

    Parameters
    ----------
    fraction
        Share of tokens whose value is hidden.
    mask_value
        What stands in place of a hidden value.
    """

    fraction: float = 0.4
    mask_value: float = -1.0

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the head that predicts a value."""
        return {"value": ValueHead(shape.token_width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide values."""
        return hide_values(batch, chosen(batch, self.fraction, generator), self.mask_value)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean squared error at hidden places."""
        return {"masked_value": value_loss(outputs, corrupted)}


def hide_values(batch: TokenBatch, hidden: torch.Tensor, mask_value: float) -> Corrupted:
    """Replace values where ``hidden``; the encoder is told that it does not know them."""
    values = values_of(batch, who="Hiding values")
    known = ~hidden if batch.known is None else batch.known & ~hidden
    seen = batch.with_(values=values.masked_fill(hidden, mask_value), known=known)
    return Corrupted(batch=seen, targets={"value_mask": hidden, "values": values})


def value_loss(outputs: EncoderOutput, corrupted: Corrupted) -> torch.Tensor:
    """Return the mean squared error of the value head where values were hidden."""
    hidden, values = corrupted.targets["value_mask"], corrupted.targets["values"]
    at = hidden.nonzero().squeeze(1)
    predicted = outputs.heads["value"](outputs.token_states[at]).float()
    return masked_mean((predicted - values[at]).square(), hidden[at])
