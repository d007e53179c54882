"""Denoising: give back the values of a cell that was read badly.

Vincent et al. 2008; Wen et al. 2024 (CellPLM drops genes, Beta-distributed by cell):

    a share r ~ U[0, 2·dropped) of a cell's values becomes 0; the rest gets N(0, noise²) on top
    L = mean over all tokens (head(state) − v)²
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.drawing import uniform, values_of
from cellweave_nn.objectives.heads import HeadShape, ValueHead
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["Denoising"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoising:
    """Predict clean values from noisy ones.

    Parameters
    ----------
    dropped
        Mean share of values that becomes zero.
    noise
        Standard deviation of what is added to the others.
    """

    dropped: float = 0.25
    noise: float = 0.1

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the head that predicts a value."""
        return {"value": ValueHead(shape.token_width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Drop and disturb values."""
        values = values_of(batch, who="nn.denoising")
        share = 2.0 * self.dropped * uniform(batch.n_cells, batch, generator)
        lost = uniform(batch.n_tokens, batch, generator) < share[batch.cell_of_token()]
        noise = self.noise * torch.randn(batch.n_tokens, generator=generator).to(values)
        special = batch.is_special()
        noisy = torch.where(special, values, (values + noise).masked_fill(lost, 0.0))
        return Corrupted(batch=batch.with_(values=noisy), targets={"clean": values})

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean squared error over all tokens that are no special ones."""
        at = (~corrupted.batch.is_special()).nonzero().squeeze(1)
        predicted = outputs.heads["value"](outputs.token_states[at]).float()
        error = (predicted - corrupted.targets["clean"][at]).square()
        return {"denoising": error.sum() / max(len(at), 1)}
