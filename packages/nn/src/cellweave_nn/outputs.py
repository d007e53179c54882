"""What an encoder gives, and what an objective hides from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cellweave_nn.batch import TokenBatch

__all__ = ["Corrupted", "EncoderOutput"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOutput:
    """Hold the states of one batch.

    Parameters
    ----------
    token_states
        ``(n_tokens, d)``, ragged as the batch.
    cell_state
        ``(n_cells, d)``.
    token_embeddings
        ``(n_tokens, d)``: what the ids alone became, before values and context were added.
    hidden
        Token states after each block, the embedding first, where they were asked for.
    attention
        Attention weights of each block, one ``(heads, length, length)`` tensor a cell, where
        they were asked for.
    heads
        Prediction heads by name, put here by the model that owns them.
    """

    token_states: torch.Tensor
    cell_state: torch.Tensor
    token_embeddings: torch.Tensor | None = None
    hidden: tuple[torch.Tensor, ...] = ()
    attention: tuple[tuple[torch.Tensor, ...], ...] = ()
    heads: Mapping[str, nn.Module] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted:
    """Hold a corrupted batch and what the encoder should have made of it, by name."""

    batch: TokenBatch
    targets: Mapping[str, torch.Tensor]
