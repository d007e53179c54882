"""A transformer block, pre- or post-norm, and a stack of them.

    post-norm: x = norm1(x + attention(x));  x = norm2(x + feedforward(x))
    pre-norm:  x = x + attention(norm1(x));  x = x + feedforward(norm2(x))

Papers: Vaswani et al. 2017; Xiong et al. 2020 (pre-norm).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.feedforward import FeedForward
from cellweave_nn.layers.layout import Layout, first_of
from cellweave_nn.layers.norm import make_norm
from cellweave_nn.layers.tags import NO_TAGS, Tags

__all__ = [
    "Stack",
    "StackOutput",
    "TransformerBlock",
    "attention_of_blocks",
    "first_states",
    "run_blocks",
]


class TransformerBlock(nn.Module):
    """Attention and a feed-forward, each with a residual and a norm.

    Parameters
    ----------
    width
        D.
    attention
        Module called as ``attention(x, layout, tags)``.
    feedforward
        Module called as ``feedforward(x, tags)``.
    norm, eps
        Kind of norm and its epsilon.
    norm_first
        Pre-norm when true.
    dropout
        On what attention and feed-forward add to the residual stream.
    """

    def __init__(
        self,
        width: int,
        *,
        attention: nn.Module,
        feedforward: nn.Module,
        norm: str = "layer",
        eps: float = 1e-5,
        norm_first: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = attention
        self.norm1 = make_norm(norm, width, eps=eps)
        self.feedforward = feedforward
        self.norm2 = make_norm(norm, width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def simple(
        cls,
        width: int,
        heads: int,
        hidden: int,
        *,
        activation: str = "gelu",
        norm: str = "layer",
        eps: float = 1e-5,
        norm_first: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        kernel: nn.Module | None = None,
        rotary: bool = False,
        project_unknown: bool = True,
        head_width: int | None = None,
    ) -> TransformerBlock:
        """Build the usual block from sizes."""
        attention = SelfAttention(
            width,
            heads,
            head_width=head_width,
            bias=bias,
            out_bias=bias,
            rotary=rotary,
            kernel=kernel,
            project_unknown=project_unknown,
        )
        feedforward = FeedForward(
            width, hidden, activation_name=activation, bias=bias, dropout=dropout
        )
        return cls(
            width,
            attention=attention,
            feedforward=feedforward,
            norm=norm,
            eps=eps,
            norm_first=norm_first,
            dropout=dropout,
        )

    def forward(self, x: torch.Tensor, layout: Layout, tags: Tags = NO_TAGS) -> torch.Tensor:
        """Map ``(…, D)`` to ``(…, D)``."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.norm1(x), layout, tags))
            return x + self.dropout(self.feedforward(self.norm2(x), tags))
        x = self.norm1(x + self.dropout(self.attention(x, layout, tags)))
        out: torch.Tensor = self.norm2(x + self.dropout(self.feedforward(x, tags)))
        return out

    def first_rows(self, x: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return what :meth:`forward` gives at the first row of each cell, ``(N, D)``.

        For a last block of which no other row is read: the others are keys and values alone, which
        spares most of the block.
        """
        if not (isinstance(self.attention, SelfAttention) and self.attention.is_plain):
            return first_of(self(x, layout), layout)
        first = first_of(x, layout)
        if self.norm_first:
            first = first + self.dropout(self.attention.of_first(self.norm1(x), layout))
            return first + self.dropout(self.feedforward(self.norm2(first), NO_TAGS))
        first = self.norm1(first + self.dropout(self.attention.of_first(x, layout)))
        out: torch.Tensor = self.norm2(first + self.dropout(self.feedforward(first, NO_TAGS)))
        return out

    def attention_weights(
        self, x: torch.Tensor, layout: Layout, tags: Tags = NO_TAGS
    ) -> tuple[torch.Tensor, ...]:
        """Return the softmax weights, one ``(H, length, length)`` tensor a cell."""
        assert isinstance(self.attention, SelfAttention)
        return self.attention.weights(self.attention_input(x), layout, tags)

    def attention_input(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the attention of this block sees of ``x``."""
        seen: torch.Tensor = self.norm1(x) if self.norm_first else x
        return seen


def first_states(blocks: Sequence[nn.Module], x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Run the blocks and return the state of the first row of each cell alone, ``(N, D)``."""
    if not blocks:
        return first_of(x, layout)
    last = blocks[-1]
    assert isinstance(last, TransformerBlock)
    return last.first_rows(run_blocks(blocks[:-1], x, layout), layout)


def run_blocks(blocks: Iterable[nn.Module], x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return the states after all of the blocks."""
    for block in blocks:
        x = block(x, layout)
    return x


def attention_of_blocks(
    blocks: Iterable[nn.Module], x: torch.Tensor, layout: Layout
) -> list[tuple[torch.Tensor, ...]]:
    """Return the softmax weights of every block and cell, ``(H, length, length)``."""
    found = []
    for block in blocks:
        assert isinstance(block, TransformerBlock)
        found.append(block.attention_weights(x, layout))
        x = block(x, layout)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOutput:
    """Hold the last states and, where asked for, those of every depth and the attention."""

    states: torch.Tensor
    hidden: tuple[torch.Tensor, ...] = ()
    attention: tuple[tuple[torch.Tensor, ...], ...] = ()


class Stack(nn.Module):
    """Blocks one after another, with a last norm where the blocks are pre-norm.

    Set ``checkpointing`` to trade time for memory: each block is computed again in the
    backward pass instead of keeping what it computed.
    """

    def __init__(self, blocks: Iterable[nn.Module], *, last_norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.last_norm = last_norm if last_norm is not None else nn.Identity()
        self.checkpointing = False

    def forward(
        self,
        x: torch.Tensor,
        layout: Layout,
        tags: Tags = NO_TAGS,
        *,
        keep_hidden: bool = False,
        keep_attention: bool = False,
    ) -> StackOutput:
        """Run all blocks; hidden states are those before each block and the last ones."""
        hidden, attention = [], []
        for block in self.blocks:
            if keep_hidden:
                hidden.append(x)
            if keep_attention:
                assert isinstance(block, TransformerBlock)
                attention.append(block.attention_weights(x, layout, tags))
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, layout, tags, use_reentrant=False)
            else:
                x = block(x, layout, tags)
        x = self.last_norm(x)
        if keep_hidden:
            hidden.append(x)
        return StackOutput(states=x, hidden=tuple(hidden), attention=tuple(attention))
