"""Masking by gene programmes.

Richter et al. 2025. Random masking can be solved from a gene's neighbours in its programme; hiding
whole programmes cannot:

    "programme":               one programme a cell is hidden, the rest is seen
    "programme_to_programme":  only one programme is seen, another is to be predicted
    "programme_to_tf":         only one programme is seen, the transcription factors are predicted
    L = mean over what is to be predicted (head(state) − v)²
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.heads import HeadShape, ValueHead
from cellweave_nn.objectives.masked_value import hide_values, value_loss
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["ProgrammeMasking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgrammeMasking:
    """Predict gene programmes.

    Parameters
    ----------
    programmes
        Name to the ids of its genes.
    mode
        As above.
    factors
        Ids of transcription factors, for ``"programme_to_tf"``.
    mask_value
        What stands in place of a hidden value.
    """

    programmes: dict[str, list[int]]
    mode: Literal["programme", "programme_to_programme", "programme_to_tf"] = "programme"
    factors: tuple[int, ...] = ()
    mask_value: float = -1.0

    def __post_init__(self) -> None:
        """Refuse settings that would leave nothing to predict."""
        needed = 2 if self.mode == "programme_to_programme" else 1
        if len(self.programmes) < needed:
            msg = f"{len(self.programmes)} programmes are too few for {self.mode!r}. Give {needed}."
            raise ConfigError(msg)
        if self.mode == "programme_to_tf" and not self.factors:
            msg = "mode='programme_to_tf' needs `factors`. Give the ids of transcription factors."
            raise ConfigError(msg)

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the head that predicts a value."""
        return {"value": ValueHead(shape.token_width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Choose programmes for each cell; hide, and where the mode says so leave out."""
        n = len(self.programmes)
        cell = batch.cell_of_token()
        first = torch.randint(n, (batch.n_cells,), generator=generator).to(batch.device)
        step = torch.randint(1, max(n, 2), (batch.n_cells,), generator=generator)
        member = self._members(batch)
        source = member[first[cell], batch.ids]
        if self.mode == "programme":
            return hide_values(batch, source, self.mask_value)
        if self.mode == "programme_to_tf":
            wanted = torch.isin(batch.ids, torch.tensor(self.factors, device=batch.device))
        else:
            second = (first + step.to(batch.device)) % n
            wanted = member[second[cell], batch.ids] & ~source
        kept = source | wanted | batch.is_special()
        return hide_values(batch.keep(kept), wanted[kept], self.mask_value)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean squared error of what was to be predicted."""
        return {"programmes": value_loss(outputs, corrupted)}

    def _members(self, batch: TokenBatch) -> torch.Tensor:
        size = max(batch.n_ids, int(batch.ids.max()) + 1 if len(batch.ids) else 1)
        member = torch.zeros(len(self.programmes), size, dtype=torch.bool)
        for row, ids in enumerate(self.programmes.values()):
            member[row, [i for i in ids if i < size]] = True
        return member.to(batch.device)
