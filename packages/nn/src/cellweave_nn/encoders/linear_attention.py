"""Encoders whose attention is linear in length.

Choromanski et al. 2021 (FAVOR+; scBERT, Yang et al. 2022); Wu et al. 2022 (Flowformer; CellPLM).
The kernels stand in :mod:`cellweave_nn.layers.favor` and :mod:`cellweave_nn.layers.flow`.
"""

from __future__ import annotations

from cellweave_nn.encoders.inputs import Places, Values
from cellweave_nn.encoders.pooling import Pooling
from cellweave_nn.encoders.transformer import TransformerEncoder

__all__ = ["favor_encoder", "flow_encoder"]


def favor_encoder(
    *,
    n_ids: int,
    width: int = 256,
    depth: int = 6,
    heads: int = 4,
    hidden: int = 0,
    values: Values = "bins",
    n_bins: int = 7,
    places: Places = "none",
    n_places: int = 2048,
    pooling: Pooling = "mean",
    dropout: float = 0.0,
) -> TransformerEncoder:
    """Build a Performer: pre-norm blocks with positive random features."""
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
        attention="favor",
        pooling=pooling,
        dropout=dropout,
    )


def flow_encoder(
    *,
    n_ids: int,
    width: int = 256,
    depth: int = 4,
    heads: int = 4,
    hidden: int = 0,
    values: Values = "continuous",
    n_bins: int = 51,
    places: Places = "none",
    n_places: int = 2048,
    pooling: Pooling = "mean",
    dropout: float = 0.0,
) -> TransformerEncoder:
    """Build a Flowformer: pre-norm blocks whose flow is conserved."""
    return TransformerEncoder(
        n_ids=n_ids,
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden or 2 * width,
        values=values,
        n_bins=n_bins,
        places=places,
        n_places=n_places,
        attention="flow",
        pooling=pooling,
        dropout=dropout,
    )
