"""How the rows of a tensor belong to cells: padded to one length, or packed without padding.

Everything but attention works on rows alone, so a block runs in either form unchanged; a layout
only tells attention which rows may meet. Shapes: B cells, L padded length, T packed tokens,
H heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Layout", "Packed", "Padded", "first_of", "packed_layout", "padded_layout"]

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
    """Some cells of about one length: how many, padded to what, and which places are tokens."""

    shape: tuple[int, int]
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
    rows
        Which row stands at each place when the buckets are laid one after another, padding
        included (it repeats a cell's last row); ``None`` when one bucket holds all in order.
    back
        ``(T,)`` at which of those places each row stands.
    """

    offsets: torch.Tensor
    lengths: tuple[int, ...]
    buckets: tuple[Bucket, ...]
    rows: torch.Tensor | None = None
    back: torch.Tensor | None = None

    def map(self, kernel: Kernel, *tensors: torch.Tensor) -> torch.Tensor:
        """Apply ``kernel(*tensors, is_token)`` to each bucket of tensors of shape ``(T, …)``."""
        if self.rows is None or self.back is None:
            shape = self.buckets[0].shape
            return kernel(*(t.reshape(*shape, *t.shape[1:]) for t in tensors), None).flatten(0, 1)
        # Laid out at once and then split: rows taken for each bucket by itself would cost, in the
        # backward pass, a tensor of zeros as large as all of them a bucket.
        sizes = [n * length for n, length in (bucket.shape for bucket in self.buckets)]
        laid = [torch.split(t.index_select(0, self.rows), sizes) for t in tensors]
        parts = []
        for bucket, *pieces in zip(self.buckets, *laid, strict=True):
            seen = (piece.unflatten(0, bucket.shape) for piece in pieces)
            parts.append(kernel(*seen, bucket.is_token).flatten(0, 1))
        return torch.cat(parts).index_select(0, self.back)


Layout = Padded | Packed


def first_of(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return the first row of each cell, ``(N, …)``; no cell may be empty."""
    return x[layout.offsets[:-1]] if isinstance(layout, Packed) else x[:, 0]


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
        bucket = Bucket(shape=(len(lengths), lengths[0]), is_token=None)
        return Packed(offsets=offsets, lengths=lengths, buckets=(bucket,))
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    laid = [_bucket(group, lengths, starts, device) for group in _groups(lengths)]
    rows = torch.cat([rows for _, rows, _ in laid])
    is_token = torch.cat([is_token for *_, is_token in laid])
    back = torch.empty(sum(lengths), dtype=torch.int64, device=device)
    back[rows[is_token]] = is_token.nonzero().squeeze(1)
    buckets = tuple(bucket for bucket, *_ in laid)
    return Packed(offsets=offsets, lengths=lengths, buckets=buckets, rows=rows, back=back)


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
) -> tuple[Bucket, torch.Tensor, torch.Tensor]:
    """Return a bucket, the row at each of its places, and whether it is a token."""
    longest = lengths[group[0]]
    first = torch.tensor([starts[i] for i in group], device=device)[:, None]
    counts = torch.tensor([lengths[i] for i in group], device=device)[:, None]
    place = torch.arange(longest, device=device)
    is_token = place < counts
    rows = first + torch.minimum(place, counts - 1)
    whole = lengths[group[-1]] == longest
    bucket = Bucket(shape=(len(group), longest), is_token=None if whole else is_token)
    return bucket, rows.flatten(), is_token.flatten()
