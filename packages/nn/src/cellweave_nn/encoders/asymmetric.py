"""The asymmetric encoder–decoder of xTrimoGene and scFoundation.

Gong et al. 2023; Hao et al. 2024:

    encoder (wide, full attention): only tokens that are not zero and not masked
    decoder (narrow, FAVOR+):       all tokens; encoded ones carry their states, others a value row
    cell = pool(encoder states)

Most genes of a cell are zero, so the costly part reads a tenth of the sequence.
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave.errors import DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.inputs import TokenInput
from cellweave_nn.encoders.pooling import Pooling, pool
from cellweave_nn.encoders.running import run_stack, sequences_of
from cellweave_nn.encoders.settings import settings_of
from cellweave_nn.encoders.transformer import make_kernel, start_small
from cellweave_nn.layers.block import Stack, TransformerBlock
from cellweave_nn.outputs import EncoderOutput

__all__ = ["AsymmetricEncoder"]


class AsymmetricEncoder(nn.Module):
    """Encode what is there, decode everything.

    Parameters
    ----------
    n_ids
        Size of the vocabulary.
    width, depth, heads, hidden
        Of the encoder (``hidden`` is ``4 · width`` when 0).
    decoder_width, decoder_depth, decoder_heads
        Of the decoder.
    n_bins
        Soft bins of a value.
    pooling
        How a cell's state is made of the encoder's states.
    dropout
        Share of what is dropped while training.
    """

    def __init__(
        self,
        *,
        n_ids: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        hidden: int = 0,
        decoder_width: int = 128,
        decoder_depth: int = 2,
        decoder_heads: int = 4,
        n_bins: int = 100,
        pooling: Pooling = "mean",
        dropout: float = 0.0,
    ) -> None:
        config = settings_of(locals())
        super().__init__()
        self.config = config
        self.pooling = pooling
        self.cell_width, self.token_width = width, decoder_width
        self.input = TokenInput(n_ids, width, values="autobin", n_bins=n_bins, norm=False)
        self.stack = Stack(
            (
                TransformerBlock.simple(
                    width, heads, hidden or 4 * width, activation="relu", dropout=dropout
                )
                for _ in range(depth)
            ),
            last_norm=nn.LayerNorm(width),
        )
        self.narrow = nn.Linear(width, decoder_width)
        self.decoder = Stack(
            (
                TransformerBlock.simple(
                    decoder_width,
                    decoder_heads,
                    4 * decoder_width,
                    norm_first=True,
                    dropout=dropout,
                    kernel=make_kernel("favor", decoder_width // decoder_heads),
                )
                for _ in range(decoder_depth)
            ),
            last_norm=nn.LayerNorm(decoder_width),
        )
        start_small(self, depth)

    def forward(
        self,
        batch: TokenBatch,
        *,
        padded: bool = False,
        keep_hidden: bool = False,
        keep_attention: bool = False,
    ) -> EncoderOutput:
        """Return the decoder's token states and a cell state from the encoder."""
        if batch.values is None:
            msg = "The asymmetric encoder reads values. Choose a tokenizer that gives them."
            raise DataError(msg)
        seen = batch.values != 0
        if batch.known is not None:
            seen = seen & batch.known
        visible = batch.keep(seen)
        made = self.input(batch)
        encoded = run_stack(
            self.stack,
            sequences_of(made.rows[seen], visible),
            padded=padded,
            keep_hidden=keep_hidden,
            keep_attention=keep_attention,
        )
        at = seen.nonzero().squeeze(1)
        rows = made.rows.index_copy(0, at, (encoded.states + made.token_embeddings[at]))
        decoded = run_stack(self.decoder, sequences_of(self.narrow(rows), batch), padded=padded)
        return EncoderOutput(
            token_states=decoded.states,
            cell_state=pool(encoded.states, visible, self.pooling),
            token_embeddings=made.token_embeddings,
            hidden=tuple(_spread(h, at, len(seen)) for h in encoded.hidden),
            attention=encoded.attention,
        )


def _spread(states: torch.Tensor, at: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Return a row a token, zero for those the encoder did not read."""
    return states.new_zeros(n_tokens, states.shape[1]).index_copy(0, at, states)
