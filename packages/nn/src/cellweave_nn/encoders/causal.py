"""The causal encoder for generating cells gene by gene.

Bian et al. 2024 (scMulan): pre-norm GPT without positions, gene + expression bin; the states feed
two heads, the next token and its bin (:mod:`cellweave_nn.objectives.next_gene`).
"""

from __future__ import annotations

from cellweave_nn.encoders.inputs import Places, Values
from cellweave_nn.encoders.transformer import TransformerEncoder

__all__ = ["causal_encoder"]


def causal_encoder(
    *,
    n_ids: int,
    width: int = 256,
    depth: int = 6,
    heads: int = 4,
    hidden: int = 0,
    values: Values = "bins",
    n_bins: int = 11,
    places: Places = "none",
    n_places: int = 2048,
    dropout: float = 0.0,
) -> TransformerEncoder:
    """Build the encoder; a cell's state is that of its last token, which has seen all."""
    return TransformerEncoder(
        n_ids=n_ids,
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden,
        values=values,
        n_bins=n_bins,
        places=places,
        n_places=n_places,
        input_norm=False,
        attention="causal",
        pooling="last",
        activation="gelu_tanh",
        norm_first=True,
        dropout=dropout,
    )
