"""How the rows of a tensor belong to cells: padded to one length, or packed without padding.

Everything but attention works on rows alone, so a block runs in either form unchanged; a layout
only tells attention which rows may meet. Shapes: B cells, L padded length, T packed tokens,
H heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Layout", "Packed", "Padded", "packed_layout", "padded_layout"]

Kernel = Callable[..., torch.Tensor]

# A bucket may hold cells down to this share of its longest: the mask costs less than a call.
_SHORTEST_IN_BUCKET = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Padded:
    """Say which places of a ``(B, L, …)`` tensor are tokens; ``None`` when all are."""

    is_token: torch.Tensor | None

    def map(self, kernel: Kernel, *tensors: torch.Tensor) -> torch.Tensor:
        """Apply ``kernel(*tensors, is_token)`` to tensors of shape ``(B, L, …)``."""
        return kernel(*tensors, self.is_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Some cells of about one length: their rows as ``(b, l)``, and which places are tokens."""

    rows: torch.Tensor
    is_token: torch.Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Say which rows of a ``(T, …)`` tensor belong to one cell.

    Parameters
    ----------
    offsets
        ``(N + 1,)`` first row of each cell.
    lengths
        The same as plain integers.
    buckets
        Cells grouped by length.
    back
        ``(T,)`` where each row stands after the buckets were laid one after another;
        ``None`` when one bucket holds all rows in order.
    """

    offsets: torch.Tensor
    lengths: tuple[int, ...]
    buckets: tuple[Bucket, ...]
    back: torch.Tensor | None

    def map(self, kernel: Kernel, *tensors: torch.Tensor) -> torch.Tensor:
        """Apply ``kernel(*tensors, is_token)`` to each bucket of tensors of shape ``(T, …)``."""
        if self.back is None:
            shape = self.buckets[0].rows.shape
            return kernel(*(t.reshape(*shape, *t.shape[1:]) for t in tensors), None).flatten(0, 1)
        parts = []
        for bucket in self.buckets:
            out = kernel(*(t[bucket.rows] for t in tensors), bucket.is_token)
            parts.append(out.flatten(0, 1) if bucket.is_token is None else out[bucket.is_token])
        return torch.cat(parts)[self.back]


Layout = Padded | Packed


def padded_layout(lengths: Sequence[int], device: torch.device | str = "cpu") -> Padded:
    """Describe cells padded on the right to the longest."""
    longest = max(lengths, default=0)
    if min(lengths, default=0) == longest:
        return Padded(is_token=None)
    counts = torch.tensor(lengths, device=device)
    return Padded(is_token=torch.arange(longest, device=device) < counts[:, None])


def packed_layout(
    offsets: torch.Tensor, lengths: Sequence[int], device: torch.device | str = "cpu"
) -> Packed:
    """Describe cells that stand one after another, and group them by length."""
    lengths = tuple(lengths)
    if lengths and min(lengths) == max(lengths):
        rows = torch.arange(sum(lengths), device=device).view(len(lengths), lengths[0])
        bucket = Bucket(rows=rows, is_token=None)
        return Packed(offsets=offsets, lengths=lengths, buckets=(bucket,), back=None)
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    groups = _groups(lengths)
    buckets = tuple(_bucket(group, lengths, starts, device) for group in groups)
    back = torch.empty(sum(lengths), dtype=torch.int64, device=device)
    laid = torch.cat([_real_rows(bucket) for bucket in buckets])
    back[laid] = torch.arange(len(laid), device=device)
    return Packed(offsets=offsets, lengths=lengths, buckets=buckets, back=back)


def _real_rows(bucket: Bucket) -> torch.Tensor:
    return bucket.rows.flatten() if bucket.is_token is None else bucket.rows[bucket.is_token]


def _groups(lengths: tuple[int, ...]) -> list[list[int]]:
    """Cut the cells, longest first, wherever the next would be padded too much."""
    order = sorted((i for i, n in enumerate(lengths) if n), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    for cell in order:
        longest = lengths[groups[-1][0]] if groups else 0
        if lengths[cell] >= _SHORTEST_IN_BUCKET * longest and groups:
            groups[-1].append(cell)
        else:
            groups.append([cell])
    return groups


def _bucket(
    group: list[int], lengths: tuple[int, ...], starts: list[int], device: torch.device | str
) -> Bucket:
    longest = lengths[group[0]]
    first = torch.tensor([starts[i] for i in group], device=device)[:, None]
    counts = torch.tensor([lengths[i] for i in group], device=device)[:, None]
    place = torch.arange(longest, device=device)
    is_token = place < counts
    rows = first + torch.minimum(place, counts - 1)
    whole = lengths[group[-1]] == longest
    return Bucket(rows=rows, is_token=None if whole else is_token)
