"""Generative pretraining: from perceived genes to those to be generated, in two passes.

Cui et al. 2024 (scGPT):

    a share p ∈ {¼, ½, ¾} of a cell's genes loses its value and is not seen by others
    first pass:   L = mean over generated (head(state) − v)²
    second pass:  the cell's row is replaced by its detached state c; the same loss again

Compose with ``nn.cell_conditioned`` for the published total. The published code starts the second
pass after 1,000 steps; here it is there from the start unless ``second_pass`` is false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.drawing import chosen_per_cell
from cellweave_nn.objectives.heads import HeadShape, ValueHead
from cellweave_nn.objectives.masked_value import hide_values, value_loss
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["GenerativeValue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerativeValue:
    """Generate the values of unknown genes.

    Parameters
    ----------
    shares
        Shares to be generated; one is drawn a batch.
    second_pass
        Whether to generate again from the cell's state. Needs an encoder with ``cls`` pooling.
    """

    shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    second_pass: bool = True

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the head that predicts a value."""
        return {"value": ValueHead(shape.token_width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Choose what is to be generated."""
        which = int(torch.randint(len(self.shares), (1,), generator=generator))
        hidden = chosen_per_cell(batch, self.shares[which], generator)
        return hide_values(batch, hidden, 0.0)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the first pass's mean squared error at generated places."""
        return {"generative": value_loss(outputs, corrupted)}

    def again(self, outputs: EncoderOutput, corrupted: Corrupted) -> Corrupted | None:
        """Return the second pass's input."""
        if not self.second_pass:
            return None
        context = {**corrupted.batch.context, "cell_embedding": outputs.cell_state.detach()}
        batch = corrupted.batch.with_(context=context)
        return Corrupted(batch=batch, targets=corrupted.targets)

    def second_loss(
        self, outputs: EncoderOutput, corrupted: Corrupted
    ) -> Mapping[str, torch.Tensor]:
        """Return the second pass's mean squared error."""
        return {"generative_again": value_loss(outputs, corrupted)}
