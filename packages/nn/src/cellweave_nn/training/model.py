"""An encoder, its heads and its objectives as one module: corrupted batch in, loss terms out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.composed import Composed
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["PretrainingModel"]


class PretrainingModel(nn.Module):
    """Own the encoder and the heads that the objectives ask for.

    Parameters
    ----------
    encoder
        Any encoder with ``token_width``, ``cell_width`` and ``n_ids`` in its config.
    objective
        What it is trained for.
    """

    def __init__(self, encoder: nn.Module, objective: Composed) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        parts: Any = encoder
        shape = HeadShape(
            token_width=parts.token_width,
            cell_width=parts.cell_width,
            n_ids=parts.config["n_ids"],
        )
        self.heads = nn.ModuleDict(objective.heads(shape))

    def encode(self, batch: TokenBatch) -> EncoderOutput:
        """Return the encoder's output with the heads attached."""
        return replace(self.encoder(batch), heads=dict(self.heads.items()))

    def forward(self, corrupted: Corrupted) -> dict[str, torch.Tensor]:
        """Return the weighted loss terms, those of second passes included."""
        outputs = self.encode(corrupted.batch)
        terms = dict(self.objective.loss(outputs, corrupted))
        for part, again in self.objective.second_passes(outputs, corrupted):
            second = part.objective.second_loss(self.encode(again.batch), again)
            terms |= {name: part.weight * term for name, term in second.items()}
        return terms
