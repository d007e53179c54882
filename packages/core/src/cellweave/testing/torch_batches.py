"""Small token batches as tensors, for the suites of encoders and objectives."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["PlainBatch", "PlainOutput", "made_batch", "taken", "torch_or_skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainBatch:
    """Hold what :class:`~cellweave.contracts.TokenBatch` names, and nothing else."""

    offsets: torch.Tensor
    ids: torch.Tensor
    values: torch.Tensor | None = None
    modality: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    context: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainOutput:
    """Hold what :class:`~cellweave.contracts.EncoderOutput` names."""

    token_states: torch.Tensor
    cell_state: torch.Tensor


def torch_or_skip() -> Any:
    """Return torch, or skip the check when it is not installed."""
    try:
        import torch
    except ImportError:
        msg = "torch is not installed; `pip install cellweave-nn` brings it"
        raise unittest.SkipTest(msg) from None
    return torch


def made_batch(
    *, vocabulary_size: int, lengths: tuple[int, ...], with_values: bool = True, seed: int = 0
) -> PlainBatch:
    """Return a batch of random tokens, ids from 4 on (the first may be special)."""
    torch = torch_or_skip()
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    low = min(4, vocabulary_size - 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([low + rng.permutation(vocabulary_size - low)[:n] for n in lengths])
    values = rng.gamma(2.0, 1.0, total).astype(np.float32)
    return PlainBatch(
        offsets=torch.as_tensor(offsets, dtype=torch.int64),
        ids=torch.as_tensor(ids, dtype=torch.int64),
        values=torch.as_tensor(values) if with_values else None,
    )


def taken(batch: Any, rows: list[int]) -> PlainBatch:
    """Return the cells of ``rows``, in that order, as a plain batch."""
    torch = torch_or_skip()
    bounds = batch.offsets.tolist()
    at = torch.cat([torch.arange(bounds[r], bounds[r + 1]) for r in rows])
    lengths = [bounds[r + 1] - bounds[r] for r in rows]

    def of(tensor: Any) -> Any:
        return None if tensor is None else tensor[at]

    return PlainBatch(
        offsets=torch.as_tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int64),
        ids=batch.ids[at],
        values=of(batch.values),
        modality=of(batch.modality),
        positions=of(batch.positions),
        context={k: v[rows] for k, v in batch.context.items()},
    )
