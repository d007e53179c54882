"""Two views of a cell: SimCLR on random subsets of its genes.

Chen et al. 2020; scRobust for cells. z are unit projections of the two views:

    L = −mean_i log [ exp(z_i·z'_i/τ) / Σ_{k≠i} exp(z_i·z_k/τ) ], over all 2N rows

Compose it first: it doubles the cells, and what follows sees the doubled batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.drawing import chosen_per_cell
from cellweave_nn.objectives.heads import HeadShape, ProjectionHead
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["TwoViews", "paired_contrast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoViews:
    """Bring two readings of one cell together and push other cells away.

    Parameters
    ----------
    left_out
        Share of a cell's tokens that each view lacks.
    temperature
        τ.
    width
        Features that are compared.
    """

    left_out: float = 0.5
    temperature: float = 0.1
    width: int = 64

    changes_cells = True

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the projection to the sphere."""
        return {"view": ProjectionHead(shape.cell_width, self.width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Return a batch of 2N cells: all first views, then all second views."""
        twice = batch.select([*range(batch.n_cells), *range(batch.n_cells)])
        view = twice.keep(~chosen_per_cell(twice, self.left_out, generator))
        return Corrupted(batch=view, targets={})

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the normalised temperature-scaled cross-entropy."""
        z = outputs.heads["view"](outputs.cell_state).float()
        first, second = z.chunk(2)
        return {"two_views": paired_contrast(first, second, self.temperature)}


def paired_contrast(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return NT-Xent of unit rows: row i of one is the only positive of row i of the other."""
    z = torch.cat([first, second])
    similarity = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    n = len(first)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(z.device)
    return F.cross_entropy(similarity, partner)
