"""An encoder for several modalities at once, in full or mosaic.

Cui et al. 2024 (modality embeddings); Shazeer et al. 2017 (experts). The tokens of all modalities
of a cell stand in one sequence, each with its modality's embedding; a cell that lacks a modality
has no such tokens, so mosaic data need no filling in. The cell is the mean over the modalities it
has of their mean token, so that a modality of many tokens does not drown the others.
"""

from __future__ import annotations

from cellweave_nn.encoders.inputs import Values
from cellweave_nn.encoders.pooling import Pooling
from cellweave_nn.encoders.transformer import TransformerEncoder

__all__ = ["multiomic_encoder"]


def multiomic_encoder(
    *,
    n_ids: int,
    n_modalities: int,
    width: int = 256,
    depth: int = 6,
    heads: int = 4,
    hidden: int = 0,
    values: Values = "continuous",
    n_bins: int = 51,
    pooling: Pooling = "modalities",
    experts: bool = True,
    dropout: float = 0.0,
) -> TransformerEncoder:
    """Build the encoder; ``experts`` gives each modality feed-forwards of its own."""
    return TransformerEncoder(
        n_ids=n_ids,
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden,
        values=values,
        n_bins=n_bins,
        n_modalities=n_modalities,
        pooling=pooling,
        experts=experts,
        dropout=dropout,
    )
