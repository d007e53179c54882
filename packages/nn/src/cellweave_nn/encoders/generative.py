"""The generative encoder of scGPT: from the genes that are known to those that are not.

Cui et al. 2024. Known tokens carry gene + value, unknown ones gene + flag; known tokens see all
known ones, an unknown token sees those and itself, through exact attention without a mask
(:mod:`cellweave_nn.layers.generative`). The cell is the learned row before its tokens.
"""

from __future__ import annotations

from cellweave_nn.encoders.inputs import Values
from cellweave_nn.encoders.pooling import Pooling
from cellweave_nn.encoders.transformer import TransformerEncoder

__all__ = ["generative_encoder"]


def generative_encoder(
    *,
    n_ids: int,
    width: int = 256,
    depth: int = 6,
    heads: int = 4,
    hidden: int = 0,
    values: Values = "continuous",
    n_bins: int = 51,
    pooling: Pooling = "cls",
    activation: str = "relu",
    norm_first: bool = False,
    dropout: float = 0.0,
    project_unknown: bool = True,
) -> TransformerEncoder:
    """Build the encoder; arguments as in :class:`TransformerEncoder`, defaults as published."""
    return TransformerEncoder(
        n_ids=n_ids,
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden or width,
        values=values,
        n_bins=n_bins,
        flag=True,
        token_norm=True,
        input_norm=False,
        attention="generative",
        pooling=pooling,
        activation=activation,
        norm_first=norm_first,
        dropout=dropout,
        project_unknown=project_unknown,
    )
