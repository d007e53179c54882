"""Run a stack of blocks over a batch, packed or padded, with or without a row for the cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.block import Stack, StackOutput
from cellweave_nn.layers.layout import packed_layout, padded_layout
from cellweave_nn.layers.ragged import pad, prepend, unpad
from cellweave_nn.layers.tags import Tags

__all__ = ["Sequences", "run_stack", "sequences_of", "with_cell_rows", "without_cell_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Hold rows, how they belong to cells, and their tags."""

    rows: torch.Tensor
    offsets: torch.Tensor
    lengths: tuple[int, ...]
    tags: Tags


def sequences_of(rows: torch.Tensor, batch: TokenBatch) -> Sequences:
    """Take raggedness and tags from a batch."""
    tags = Tags(known=batch.known, places=batch.places(), modality=batch.modality)
    return Sequences(rows=rows, offsets=batch.offsets, lengths=batch.lengths, tags=tags)


def with_cell_rows(sequences: Sequences, cell_rows: torch.Tensor) -> Sequences:
    """Put a row for the cell itself before its tokens; it is known, at place 0."""
    old = sequences.offsets

    def first(tag: torch.Tensor | None, value: int, *, shift: int = 0) -> torch.Tensor | None:
        if tag is None:
            return None
        return prepend(tag + shift if shift else tag, old, tag.new_full((len(old) - 1,), value))

    tags = Tags(
        known=first(sequences.tags.known, 1),
        places=first(sequences.tags.places, 0, shift=1),
        modality=first(sequences.tags.modality, 0),
    )
    return Sequences(
        rows=prepend(sequences.rows, old, cell_rows),
        offsets=old + torch.arange(len(old), device=old.device),
        lengths=tuple(n + 1 for n in sequences.lengths),
        tags=tags,
    )


def without_cell_rows(x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Drop the first row of each cell, which :func:`with_cell_rows` put there."""
    is_token = torch.ones(len(x), dtype=torch.bool, device=x.device)
    is_token[offsets[:-1]] = False
    return x[is_token]


def run_stack(
    stack: Stack,
    sequences: Sequences,
    *,
    padded: bool = False,
    keep_hidden: bool = False,
    keep_attention: bool = False,
) -> StackOutput:
    """Return packed states; ``padded`` computes them the padded way."""
    lengths, rows, tags = sequences.lengths, sequences.rows, sequences.tags
    device = rows.device
    if not padded:
        layout = packed_layout(sequences.offsets, lengths, device)
        packed: StackOutput = stack(
            rows, layout, tags, keep_hidden=keep_hidden, keep_attention=keep_attention
        )
        return packed
    out: StackOutput = stack(
        pad(rows, lengths),
        padded_layout(lengths, device),
        _padded_tags(tags, lengths),
        keep_hidden=keep_hidden,
        keep_attention=keep_attention,
    )
    return StackOutput(
        states=unpad(out.states, lengths),
        hidden=tuple(unpad(h, lengths) for h in out.hidden),
        attention=out.attention,
    )


def _padded_tags(tags: Tags, lengths: Sequence[int]) -> Tags:
    def padded(tag: torch.Tensor | None) -> torch.Tensor | None:
        return None if tag is None else pad(tag, lengths)

    return Tags(
        known=padded(tags.known), places=padded(tags.places), modality=padded(tags.modality)
    )
