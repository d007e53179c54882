"""Ragged batches on a device: the tokens of some cells as tensors, without padding.

Shapes: T tokens of all cells, N cells, L the longest cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cellweave.errors import DataError

if TYPE_CHECKING:
    from cellweave.records import Tokens, Vocabulary

__all__ = ["TokenBatch"]

_PER_TOKEN = ("ids", "values", "modality", "positions", "known")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Hold the tokens of N cells; cell ``i`` owns rows ``offsets[i]:offsets[i + 1]``.

    Parameters
    ----------
    offsets
        ``(N + 1,)`` int64, starts at 0, never falls.
    ids
        ``(T,)`` int64, into the vocabulary.
    values
        ``(T,)`` or ``(T, width)`` float, or ``None``.
    modality
        ``(T,)`` int64, or ``None`` when there is one modality.
    positions
        ``(T,)`` int64, or ``None`` for the running index within the cell.
    context
        Per-cell tensors by name, ``N`` rows each. Text is no tensor and is left behind.
    known
        ``(T,)`` bool: tokens whose value the encoder may see; ``None`` means all. Generative
        encoders let an unknown token look at known ones and at itself only.
    special
        Role to id of special tokens: ``pad``, ``mask``, ``cls`` …
    n_ids
        Size of the vocabulary; 0 when not told.
    lengths
        Tokens of each cell as plain integers, so that planning needs no device transfer.
    """

    offsets: torch.Tensor
    ids: torch.Tensor
    values: torch.Tensor | None = None
    modality: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    context: Mapping[str, torch.Tensor] = field(default_factory=dict)
    known: torch.Tensor | None = None
    special: Mapping[str, int] = field(default_factory=dict)
    n_ids: int = 0
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Freeze the mappings and refuse tensors that do not fit each other."""
        object.__setattr__(self, "context", MappingProxyType(dict(self.context)))
        object.__setattr__(self, "special", MappingProxyType(dict(self.special)))
        if not self.lengths:
            lengths = (self.offsets[1:] - self.offsets[:-1]).tolist()
            object.__setattr__(self, "lengths", tuple(lengths))
        if problem := _first_misfit(self):
            msg = f"The batch is inconsistent: {problem}."
            raise DataError(msg)

    @classmethod
    def from_tokens(
        cls,
        tokens: Tokens,
        *,
        vocabulary: Vocabulary | None = None,
        device: str | torch.device = "cpu",
    ) -> TokenBatch:
        """Move the tokens of some cells to a device."""

        def put(array: np.ndarray | None, dtype: torch.dtype) -> torch.Tensor | None:
            if array is None:
                return None
            return torch.from_numpy(np.array(array)).to(device=device, dtype=dtype)

        ids, offsets = put(tokens.ids, torch.int64), put(tokens.offsets, torch.int64)
        assert ids is not None
        assert offsets is not None
        return cls(
            offsets=offsets,
            ids=ids,
            values=put(tokens.values, torch.float32),
            modality=put(tokens.modality, torch.int64),
            positions=put(tokens.positions, torch.int64),
            context=_numeric(tokens.context, device),
            special=dict(vocabulary.special) if vocabulary else {},
            n_ids=len(vocabulary) if vocabulary else 0,
            lengths=tuple(tokens.lengths.tolist()),
        )

    @property
    def n_cells(self) -> int:
        """Count cells."""
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        """Count tokens."""
        return len(self.ids)

    @property
    def device(self) -> torch.device:
        """Give the device the tensors are on."""
        return self.ids.device

    def cell_of_token(self) -> torch.Tensor:
        """Return ``(T,)``: which cell each token belongs to."""
        counts = self.offsets[1:] - self.offsets[:-1]
        cells = torch.arange(self.n_cells, device=self.device)
        return torch.repeat_interleave(cells, counts, output_size=self.n_tokens)

    def running_index(self) -> torch.Tensor:
        """Return ``(T,)``: the place of each token within its cell."""
        return torch.arange(self.n_tokens, device=self.device) - self.offsets[self.cell_of_token()]

    def places(self) -> torch.Tensor:
        """Return the positions that were given, else the running index."""
        return self.running_index() if self.positions is None else self.positions

    def is_special(self) -> torch.Tensor:
        """Return ``(T,)``: tokens that stand for no feature."""
        found = torch.zeros_like(self.ids, dtype=torch.bool)
        for special in set(self.special.values()):
            found |= self.ids == special
        return found

    def with_(self, **changes: Any) -> TokenBatch:
        """Return a copy with some fields replaced; the raggedness stays."""
        return replace(self, **changes)

    def select(self, rows: torch.Tensor | Sequence[int]) -> TokenBatch:
        """Return the cells ``rows``, in that order, repeats allowed."""
        rows = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        lengths = tuple(self.lengths[i] for i in rows.tolist())
        counts = (self.offsets[1:] - self.offsets[:-1])[rows]
        offsets = _offsets(counts)
        starts = self.offsets[rows] - offsets[:-1]
        at = torch.arange(sum(lengths), device=self.device)
        at = at + torch.repeat_interleave(starts, counts, output_size=sum(lengths))
        context = {k: v[rows] for k, v in self.context.items()}
        return self._gathered(at, offsets=offsets, lengths=lengths, context=context)

    def keep(self, is_kept: torch.Tensor) -> TokenBatch:
        """Return the same cells with only the tokens where ``is_kept`` is true."""
        counts = torch.zeros(self.n_cells, dtype=torch.int64, device=self.device)
        counts.index_add_(0, self.cell_of_token(), is_kept.to(torch.int64))
        at = is_kept.nonzero().squeeze(1)
        lengths = tuple(counts.tolist())
        return self._gathered(at, offsets=_offsets(counts), lengths=lengths, context=self.context)

    def appended(self, ids: torch.Tensor, values: torch.Tensor | None = None) -> TokenBatch:
        """Return a batch whose cells have ``(N, k)`` more tokens at their ends."""
        k = ids.shape[1]
        shift = torch.arange(self.n_cells + 1, device=self.device) * k
        offsets = self.offsets + shift
        size = self.n_tokens + self.n_cells * k
        last = (offsets[1:, None] - k + torch.arange(k, device=self.device)).flatten()
        is_old = torch.ones(size, dtype=torch.bool, device=self.device).index_fill(
            0, last, value=False
        )
        at = is_old.nonzero().squeeze(1)

        def put(old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor | None:
            if old is None:
                return None
            out = old.new_zeros((size, *old.shape[1:])).index_copy(0, at, old)
            return out.index_copy(0, last, new.flatten().to(old.dtype))

        made: dict[str, Any] = {
            "ids": put(self.ids, ids),
            "values": put(self.values, torch.zeros_like(ids) if values is None else values),
            "modality": put(self.modality, torch.zeros_like(ids)),
            "positions": put(self.positions, torch.zeros_like(ids)),
            "known": put(self.known, torch.ones_like(ids)),
        }
        lengths = tuple(n + k for n in self.lengths)
        return replace(self, offsets=offsets, lengths=lengths, **made)

    def to(self, device: str | torch.device) -> TokenBatch:
        """Return the batch on another device."""
        moved: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name).to(device)
            for name in _PER_TOKEN
        }
        context = {k: v.to(device) for k, v in self.context.items()}
        return replace(self, offsets=self.offsets.to(device), context=context, **moved)

    def _gathered(self, at: torch.Tensor, **changes: Any) -> TokenBatch:
        gathered: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[at]
            for name in _PER_TOKEN
        }
        return replace(self, **gathered, **changes)


def _offsets(counts: torch.Tensor) -> torch.Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _numeric(
    context: Mapping[str, np.ndarray], device: str | torch.device
) -> dict[str, torch.Tensor]:
    """Keep what tensors can hold; integers become int64 and floats float32."""
    kept = {}
    for name, array in context.items():
        kind = np.asarray(array).dtype.kind
        if kind in "biuf":
            dtype = torch.float32 if kind == "f" else torch.int64
            kept[name] = torch.from_numpy(np.array(array)).to(device=device, dtype=dtype)
    return kept


def _first_misfit(batch: TokenBatch) -> str | None:
    n_cells, n_tokens = len(batch.offsets) - 1, len(batch.ids)
    if len(batch.lengths) != n_cells or sum(batch.lengths) != n_tokens:
        return (
            f"`offsets` describe {len(batch.lengths)} cells with {sum(batch.lengths)} tokens, "
            f"but there are {n_cells} cells and {n_tokens} ids"
        )
    for name in _PER_TOKEN:
        tensor = getattr(batch, name)
        if tensor is not None and len(tensor) != n_tokens:
            return f"`{name}` has {len(tensor)} entries for {n_tokens} tokens"
    for name, tensor in batch.context.items():
        if len(tensor) != n_cells:
            return f"context {name!r} has {len(tensor)} rows for {n_cells} cells"
    return None
