"""The bidirectional state-space encoder of GeneMamba, linear in length.

Qi et al. 2025; Dao and Gu 2024 (Mamba-2). Each block reads the cell from both ends
(:mod:`cellweave_nn.layers.mamba`). Departure: a norm before each block, for training from
scratch; ``norm="none"`` is the published form.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.inputs import Places, TokenInput, Values
from cellweave_nn.encoders.pooling import Pooling, pool
from cellweave_nn.encoders.running import run_stack, sequences_of
from cellweave_nn.encoders.settings import settings_of
from cellweave_nn.layers.block import Stack
from cellweave_nn.layers.mamba import BidirectionalMamba
from cellweave_nn.outputs import EncoderOutput

__all__ = ["StateSpaceEncoder"]


class StateSpaceEncoder(nn.Module):
    """Encode tokens with bidirectional Mamba-2 blocks.

    Parameters
    ----------
    n_ids
        Size of the vocabulary.
    width, depth
        D and blocks.
    state, head_width, expand, conv, chunk
        As in :class:`~cellweave_nn.layers.mamba.Mamba2`.
    fuse, shared, norm
        As in :class:`~cellweave_nn.layers.mamba.BidirectionalMamba`.
    values, n_bins, places, n_places
        As in :class:`~cellweave_nn.encoders.inputs.TokenInput`.
    pooling
        How a cell's state is made.
    """

    def __init__(
        self,
        *,
        n_ids: int,
        width: int = 256,
        depth: int = 6,
        state: int = 64,
        head_width: int = 64,
        expand: int = 2,
        conv: int = 4,
        chunk: int = 64,
        fuse: Literal["mean", "sum", "concat", "gate"] = "mean",
        shared: bool = True,
        norm: str = "rms",
        values: Values = "none",
        n_bins: int = 51,
        places: Places = "none",
        n_places: int = 2048,
        pooling: Pooling = "mean",
    ) -> None:
        config = settings_of(locals())
        super().__init__()
        self.config = config
        if pooling == "cls":
            msg = "A state-space encoder has no row that sees all. Use pooling='mean' or 'first'."
            raise ConfigError(msg)
        self.pooling = pooling
        self.token_width = self.cell_width = width
        self.input = TokenInput(
            n_ids,
            width,
            values=values,
            n_bins=n_bins,
            places=places,
            n_places=n_places,
            norm=False,
        )
        self.stack = Stack(
            (
                BidirectionalMamba(
                    width,
                    fuse=fuse,
                    shared=shared,
                    norm=norm,
                    state=state,
                    head_width=head_width,
                    expand=expand,
                    conv=conv,
                    chunk=chunk,
                )
                for _ in range(depth)
            ),
            last_norm=nn.RMSNorm(width, eps=1e-5),
        )
        nn.init.normal_(self.input.tokens.table.weight, std=0.02)

    def forward(
        self,
        batch: TokenBatch,
        *,
        padded: bool = False,
        keep_hidden: bool = False,
        keep_attention: bool = False,
    ) -> EncoderOutput:
        """Return token states, ragged as the batch, and one state a cell."""
        if keep_attention:
            msg = "A state-space encoder has no attention weights. Ask for keep_attention=False."
            raise ConfigError(msg)
        made = self.input(batch)
        sequences = sequences_of(made.rows, batch)
        out = run_stack(self.stack, sequences, padded=padded, keep_hidden=keep_hidden)
        return EncoderOutput(
            token_states=out.states,
            cell_state=pool(out.states, batch, self.pooling),
            token_embeddings=made.token_embeddings,
            hidden=out.hidden,
        )
