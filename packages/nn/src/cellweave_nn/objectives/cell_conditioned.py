"""Values from the cell's state alone (GEPC, also MVC).

Cui et al. 2024: predict a gene's value from its embedding and the state of the cell, so that the
state must hold what the genes say:

    v̂ = ⟨W σ(Q g), c⟩;   L = Σ m (v̂ − v)² / Σ m
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.drawing import chosen, masked_mean, target
from cellweave_nn.objectives.heads import HeadShape, InnerProductHead
from cellweave_nn.objectives.masked_value import hide_values
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["CellConditioned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellConditioned:
    """Predict hidden values from the cell's state.

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
        """Build the inner-product head; genes are as wide as the cell's state."""
        return {"conditioned": InnerProductHead(shape.cell_width, shape.cell_width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide values, or nothing."""
        if not self.fraction:
            return Corrupted(batch=batch, targets={})
        return hide_values(batch, chosen(batch, self.fraction, generator), self.mask_value)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean squared error at hidden places."""
        hidden = target(corrupted.targets, "value_mask", who="nn.cell_conditioned")
        values = target(corrupted.targets, "values", who="nn.cell_conditioned")
        genes = outputs.token_embeddings
        if genes is None or genes.shape[1] != outputs.cell_state.shape[1]:
            msg = "nn.cell_conditioned needs gene embeddings as wide as the cell's state. "
            raise ConfigError(msg + "Choose an encoder that gives them, e.g. nn.transformer.")
        at = hidden.nonzero().squeeze(1)
        cells = outputs.cell_state[corrupted.batch.cell_of_token()[at]]
        predicted = outputs.heads["conditioned"](genes[at], cells).float()
        loss = masked_mean((predicted - values[at]).square(), hidden[at])
        return {"cell_conditioned": loss}
