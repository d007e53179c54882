"""From a batch to rows: embeddings of id, value, place and modality, added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from cellweave.errors import DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.embedding import (
    AutoBinValues,
    BinnedValues,
    ContinuousValues,
    PlaceEmbedding,
    SinusoidalPlaces,
    TokenEmbedding,
)
from cellweave_nn.layers.norm import DomainBatchNorm

__all__ = ["InputRows", "Places", "TokenInput", "Values", "make_values"]

Values = Literal["none", "continuous", "scale", "bins", "autobin"]
Places = Literal["none", "learned", "sinusoidal", "rotary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRows:
    """Hold the rows a stack starts from, and what the ids alone became."""

    rows: torch.Tensor
    token_embeddings: torch.Tensor


def make_values(kind: Values, width: int, *, n_bins: int) -> nn.Module | None:
    """Build the embedding of values; ``None`` where values are not read or only scale."""
    if kind == "continuous":
        return ContinuousValues(width)
    if kind == "bins":
        return BinnedValues(n_bins, width)
    if kind == "autobin":
        return AutoBinValues(n_bins, width)
    return None


class TokenInput(nn.Module):
    """Add up what is known of each token.

    Parameters
    ----------
    n_ids, width
        Size of the vocabulary and D.
    values
        How values are read: not at all, through a network, as a factor on the id's row, by bin,
        or by soft automatic bins.
    n_bins
        Bins, where there are bins.
    places, n_places
        How places are read, and the size of a learned table.
    n_modalities
        Rows of the modality embedding; 0 for none.
    n_domains
        Domains with statistics of their own (domain-specific batch norm, by
        ``context["batch"]``); 0 for none.
    flag
        Whether an unknown token gets a flag in place of its value (generative encoders).
    token_norm
        Layer norm on the id's row.
    norm
        Layer norm on the sum.
    dropout
        On the sum.
    """

    def __init__(
        self,
        n_ids: int,
        width: int,
        *,
        values: Values = "none",
        n_bins: int = 51,
        places: Places = "none",
        n_places: int = 2048,
        n_modalities: int = 0,
        n_domains: int = 0,
        flag: bool = False,
        token_norm: bool = False,
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.reads = values
        self.tokens = TokenEmbedding(n_ids, width, norm=token_norm)
        self.values = make_values(values, width, n_bins=n_bins)
        self.places: nn.Module | None = None
        if places == "learned":
            self.places = PlaceEmbedding(n_places, width)
        elif places == "sinusoidal":
            self.places = SinusoidalPlaces(width)
        self.modality = nn.Embedding(n_modalities, width) if n_modalities else None
        self.flag = nn.Embedding(2, width) if flag else None
        self.domains = DomainBatchNorm(width, n_domains) if n_domains else None
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: TokenBatch) -> InputRows:
        """Return ``(T, D)`` rows."""
        tokens = self.tokens(batch.ids)
        rows = self._with_values(tokens, batch)
        if self.places is not None:
            rows = rows + self.places(batch.places())
        if self.modality is not None:
            rows = rows + self.modality(_modality_of(batch))
        if self.domains is not None:
            rows = self.domains(rows, _domain_of(batch))
        return InputRows(rows=self.dropout(self.norm(rows)), token_embeddings=tokens)

    def _with_values(self, tokens: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        if self.reads == "none":
            return self._flagged(tokens, tokens, batch)
        if batch.values is None or batch.values.dim() != 1:
            msg = (
                f"The encoder reads values ({self.reads!r}) but the batch has "
                f"{'none' if batch.values is None else 'several a token'}. Choose a tokenizer "
                "that gives one value a token, or values='none'."
            )
            raise DataError(msg)
        if self.values is None:
            return self._flagged(tokens * batch.values.unsqueeze(-1), tokens, batch)
        return self._flagged(tokens + self.values(batch.values), tokens, batch)

    def _flagged(self, rows: torch.Tensor, tokens: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        if self.flag is None or batch.known is None:
            return rows
        return torch.where(batch.known.unsqueeze(-1), rows, tokens + self.flag.weight[1])


def _domain_of(batch: TokenBatch) -> torch.Tensor:
    if "batch" not in batch.context:
        msg = "n_domains needs the per-cell context 'batch'. Tokenize with it, or set n_domains=0."
        raise DataError(msg)
    return batch.context["batch"][batch.cell_of_token()]


def _modality_of(batch: TokenBatch) -> torch.Tensor:
    return torch.zeros_like(batch.ids) if batch.modality is None else batch.modality
