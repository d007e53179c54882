"""The shapes that encoders and objectives exchange; torch is named here but never imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

__all__ = ["Corrupted", "EncoderOutput", "TokenBatch"]


@runtime_checkable
class TokenBatch(Protocol):
    """A ragged batch on a device: :class:`~cellweave.records.Tokens` as tensors, no padding.

    Attributes
    ----------
    offsets
        ``(n_cells + 1,)`` int64.
    ids
        ``(n_tokens,)`` int64.
    values
        ``(n_tokens,)`` or ``(n_tokens, width)`` float, or ``None``.
    modality
        ``(n_tokens,)`` int64, or ``None``.
    positions
        ``(n_tokens,)`` int64, or ``None`` for the running index within the cell.
    context
        Per-cell tensors by name.
    """

    offsets: torch.Tensor
    ids: torch.Tensor
    values: torch.Tensor | None
    modality: torch.Tensor | None
    positions: torch.Tensor | None
    context: Mapping[str, torch.Tensor]


@runtime_checkable
class EncoderOutput(Protocol):
    """States: ``token_states`` is ``(n_tokens, d)``, ``cell_state`` is ``(n_cells, d)``."""

    token_states: torch.Tensor
    cell_state: torch.Tensor


@runtime_checkable
class Corrupted(Protocol):
    """A corrupted batch, and what the encoder should have made of it, by name."""

    batch: TokenBatch
    targets: Mapping[str, torch.Tensor]
