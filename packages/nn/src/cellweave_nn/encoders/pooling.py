"""One state a cell from the states of its tokens."""

from __future__ import annotations

from typing import Literal

import torch

from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.ragged import cell_max, cell_mean, cell_sum, first_of_cell, last_of_cell

__all__ = ["Pooling", "pool"]

Pooling = Literal["cls", "first", "last", "mean", "max", "weighted", "modalities"]


def pool(states: torch.Tensor, batch: TokenBatch, how: Pooling) -> torch.Tensor:
    """Return ``(N, D)``.

    ``first``/``last`` take one token, ``mean``/``max`` all that are no special tokens, ``weighted``
    weighs by value, ``modalities`` averages the means of those modalities that a cell has.
    """
    if how == "first":
        return first_of_cell(states, batch.offsets)
    if how == "last":
        return last_of_cell(states, batch.offsets)
    cell, n_cells = batch.cell_of_token(), batch.n_cells
    if how == "weighted" and batch.values is not None:
        weight = batch.values.clamp_min(0).unsqueeze(-1)
        total = cell_sum(weight, cell, n_cells).clamp_min(1e-12)
        return cell_sum(states * weight, cell, n_cells) / total
    if how == "modalities" and batch.modality is not None:
        return _mean_of_modalities(states, batch, cell)
    real = (~batch.is_special()).nonzero().squeeze(1)
    if how == "max":
        return cell_max(states[real], cell[real], n_cells)
    if how in ("mean", "weighted", "modalities"):
        return cell_mean(states[real], cell[real], n_cells)
    msg = f"Unknown pooling {how!r}. Use first, last, mean, max, weighted, modalities or cls."
    raise ConfigError(msg)


def _mean_of_modalities(
    states: torch.Tensor, batch: TokenBatch, cell: torch.Tensor
) -> torch.Tensor:
    assert batch.modality is not None
    n_modalities = int(batch.modality.max()) + 1 if len(batch.modality) else 1
    slot = cell * n_modalities + batch.modality
    means = cell_mean(states, slot, batch.n_cells * n_modalities)
    present = torch.zeros(len(means), device=states.device).index_fill(0, slot, 1.0)
    present = present.view(batch.n_cells, n_modalities, 1)
    total = (means.view(batch.n_cells, n_modalities, -1) * present).sum(1)
    return total / present.sum(1).clamp_min(1)
