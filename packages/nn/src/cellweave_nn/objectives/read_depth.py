"""Read-depth-aware regression (RDA).

Hao et al. 2024 (scFoundation); the training code is not public, so details are from the paper:

    p ~ Beta(a, b) a cell;  c' ~ Binomial(c, p) for half of the deep cells, c' = c for the others
    input log1p(10⁴ c'/Σc') with tokens T = log10 Σc and S = log10 Σc';  target log1p(10⁴ c/Σc)
    L = mean over 30 % of non-zero and 3 % of zero places (v̂ − v)²

Values are raw counts. The two depth tokens are appended to each cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cellweave.errors import DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.ragged import cell_sum
from cellweave_nn.objectives.drawing import chosen, special_id, uniform, values_of
from cellweave_nn.objectives.heads import HeadShape, ValueHead
from cellweave_nn.objectives.masked_value import hide_values, value_loss
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["ReadDepthAware", "beta_binomial_thinning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDepthAware:
    """Predict the profile of a deeply read cell from a shallow reading.

    Parameters
    ----------
    thinned
        Share of deep cells that is thinned.
    deep
        Counts from which a cell is deep.
    a, b
        Whole-number parameters of the Beta distribution.
    nonzero_fraction, zero_fraction
        Shares of hidden places.
    mask_value
        What stands in place of a hidden value.
    """

    thinned: float = 0.5
    deep: float = 1000.0
    a: int = 2
    b: int = 2
    nonzero_fraction: float = 0.3
    zero_fraction: float = 0.03
    mask_value: float = -1.0

    extra_ids = ("target_depth", "source_depth")

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the head that predicts a value."""
        return {"value": ValueHead(shape.token_width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Thin counts, normalise both profiles, append depths, hide values."""
        counts = values_of(batch, who="nn.read_depth")
        if bool((counts < 0).any()) or bool((counts != counts.round()).any()):
            msg = "nn.read_depth needs raw counts as token values. Tokenize layers['counts']."
            raise DataError(msg)
        cell = batch.cell_of_token()
        total = cell_sum(counts, cell, batch.n_cells)
        thin = uniform(batch.n_cells, batch, generator) < self.thinned
        thin &= total > self.deep
        shallow = beta_binomial_thinning(counts, cell, batch.n_cells, self.a, self.b, generator)
        read = torch.where(thin[cell], shallow, counts)
        source = cell_sum(read, cell, batch.n_cells)
        share = torch.where(read > 0, self.nonzero_fraction, self.zero_fraction)
        depth_ids = [special_id(batch, name) for name in self.extra_ids]
        depths = torch.stack([total, source], dim=1).clamp_min(1).log10()
        ids = torch.tensor(depth_ids, device=batch.device).expand(batch.n_cells, 2)
        seen = batch.with_(values=_log_normalised(read, source, cell)).appended(ids, depths)
        aim = batch.with_(values=_log_normalised(counts, total, cell)).appended(ids, depths)
        shares = batch.with_(values=share).appended(ids, torch.zeros_like(depths)).values
        assert shares is not None
        assert aim.values is not None
        hidden = hide_values(seen, chosen(seen, shares, generator), self.mask_value)
        targets = {"value_mask": hidden.targets["value_mask"], "values": aim.values}
        return Corrupted(batch=hidden.batch, targets=targets)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean squared error at hidden places."""
        return {"read_depth": value_loss(outputs, corrupted)}


def beta_binomial_thinning(
    counts: torch.Tensor,
    cell: torch.Tensor,
    n_cells: int,
    a: int,
    b: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Keep each count with a probability of its cell, drawn from Beta(a, b).

    For whole a and b, Beta(a, b) is the a-th smallest of a + b − 1 uniform numbers.
    """
    uniforms = torch.rand(n_cells, a + b - 1, generator=generator)
    share = uniforms.sort(dim=1).values[:, a - 1]
    kept = torch.binomial(counts.cpu(), share[cell.cpu()], generator=generator)
    return kept.to(counts.device)


def _log_normalised(counts: torch.Tensor, total: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
    return torch.log1p(1e4 * counts / total.clamp_min(1)[cell])
