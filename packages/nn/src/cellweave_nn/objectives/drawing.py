"""Random choices over ragged tokens, all from one generator on the CPU."""

from __future__ import annotations

import torch

from cellweave.errors import ConfigError, DataError
from cellweave_nn.batch import TokenBatch

__all__ = [
    "chosen",
    "chosen_per_cell",
    "masked_mean",
    "special_id",
    "target",
    "uniform",
    "values_of",
]


def uniform(n: int, batch: TokenBatch, generator: torch.Generator) -> torch.Tensor:
    """Draw ``n`` numbers from U[0, 1) and put them where the batch is."""
    return torch.rand(n, generator=generator).to(batch.device)


def chosen(
    batch: TokenBatch, fraction: float | torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Choose each token that is not special with probability ``fraction``."""
    return (uniform(batch.n_tokens, batch, generator) < fraction) & ~batch.is_special()


def chosen_per_cell(batch: TokenBatch, fraction: float, generator: torch.Generator) -> torch.Tensor:
    """Choose exactly ``⌊fraction · n⌋`` of the n tokens of each cell that are not special."""
    draw = uniform(batch.n_tokens, batch, generator).masked_fill(batch.is_special(), 2.0)
    cell = batch.cell_of_token()
    order = draw.argsort(stable=True)
    order = order[cell[order].argsort(stable=True)]  # by cell, within a cell by draw
    rank = torch.empty_like(order)
    rank[order] = torch.arange(batch.n_tokens, device=batch.device) - batch.offsets[cell[order]]
    eligible = torch.zeros(batch.n_cells, dtype=torch.int64, device=batch.device)
    eligible.index_add_(0, cell, (draw < 2.0).to(torch.int64))
    return rank < (eligible * fraction).floor().to(torch.int64)[cell]


def special_id(batch: TokenBatch, role: str) -> int:
    """Return the id of a special token, or say what to do when there is none."""
    if role not in batch.special:
        msg = (
            f"The vocabulary has no {role!r} token; it has {sorted(batch.special) or 'none'}. "
            "Choose a tokenizer that offers it."
        )
        raise DataError(msg)
    return batch.special[role]


def values_of(batch: TokenBatch, *, who: str) -> torch.Tensor:
    """Return one value a token, or say that the tokenizer gives none."""
    if batch.values is None or batch.values.dim() != 1:
        msg = f"{who} needs one value a token. Choose a tokenizer that gives values."
        raise DataError(msg)
    return batch.values


def target(targets: object, name: str, *, who: str) -> torch.Tensor:
    """Return a target that this or an earlier objective made."""
    assert hasattr(targets, "__getitem__")
    try:
        found: torch.Tensor = targets[name]
    except KeyError:
        msg = (
            f"{who} needs the target {name!r}, which no objective made. Compose it with one that "
            "hides values (nn.masked_value, nn.generative_value), or set its own fraction."
        )
        raise ConfigError(msg) from None
    return found


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average where ``mask`` is true; 0 (with a gradient of 0) where nothing is."""
    return (x * mask).sum() / mask.sum().clamp_min(1)
