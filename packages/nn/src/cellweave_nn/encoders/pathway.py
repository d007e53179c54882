"""The pathway encoder of TOSICA: a cell as tokens that are pathways.

Chen et al. 2023:

    token_c = W_c · (genes of pathway c),  one masked linear layer
    x = [CLS, token_1 … token_C] through pre-norm blocks;  cell = CLS
    rollout = Π_l norm(mean_heads A_l + I),  its CLS row says which pathways decided

Departure: pathway tokens are aligned (see :mod:`cellweave_nn.layers.masked_linear`), and one
pathway that reads every gene is always added, as published.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.settings import settings_of
from cellweave_nn.layers.block import Stack, TransformerBlock
from cellweave_nn.layers.layout import padded_layout
from cellweave_nn.layers.masked_linear import MaskedLinear
from cellweave_nn.outputs import EncoderOutput

__all__ = ["PathwayEncoder", "attention_rollout"]


class PathwayEncoder(nn.Module):
    """Encode cells through gene sets.

    Parameters
    ----------
    n_ids
        Size of the vocabulary; ids are the genes.
    pathways
        Name to the ids of its genes. One more pathway reads all genes.
    width, depth, heads, dropout
        Of the blocks.
    layout
        ``"aligned"`` or ``"upstream"``.
    """

    def __init__(
        self,
        *,
        n_ids: int,
        pathways: dict[str, list[int]],
        width: int = 48,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        layout: Literal["aligned", "upstream"] = "aligned",
    ) -> None:
        config = settings_of(locals())
        super().__init__()
        self.config = config
        self.names = (*pathways, "remaining")
        self.n_ids = n_ids
        self.token_width = self.cell_width = width
        self.tokens = MaskedLinear(_mask_of(pathways, n_ids), width, layout=layout)
        self.cls = nn.Parameter(torch.zeros(width))
        self.stack = Stack(
            (
                TransformerBlock.simple(
                    width, heads, 4 * width, norm_first=True, eps=1e-6, dropout=dropout
                )
                for _ in range(depth)
            ),
            last_norm=nn.LayerNorm(width, eps=1e-6),
        )

    def forward(
        self,
        batch: TokenBatch,
        *,
        padded: bool = False,
        keep_hidden: bool = False,
        keep_attention: bool = False,
    ) -> EncoderOutput:
        """Return a cell state, and for each token the mean state of its pathways."""
        values = dense_values(batch, self.n_ids)
        rows = torch.cat([self.cls.expand(len(values), 1, -1), self.tokens(values)], dim=1)
        out = self.stack(
            rows,
            padded_layout([rows.shape[1]] * len(rows)),
            keep_hidden=keep_hidden,
            keep_attention=keep_attention,
        )
        return EncoderOutput(
            token_states=self._of_genes(out.states[:, 1:], batch),
            cell_state=out.states[:, 0],
            hidden=tuple(self._of_genes(h[:, 1:], batch) for h in out.hidden),
            attention=out.attention,
        )

    def pathway_attention(self, batch: TokenBatch) -> torch.Tensor:
        """Return ``(N, C)``: how much each pathway decided the cell's state."""
        out = self.forward(batch, keep_attention=True)
        return torch.stack([r[0, 1:] for r in attention_rollout(out.attention)])

    def _of_genes(self, pathways: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        member = self.tokens.mask[:, batch.ids].T.to(pathways.dtype)
        member = member / member.sum(1, keepdim=True).clamp_min(1)
        return torch.einsum("tc,tcw->tw", member, pathways[batch.cell_of_token()])


def attention_rollout(
    attention: tuple[tuple[torch.Tensor, ...], ...],
) -> list[torch.Tensor]:
    """Multiply the attention of all depths, residuals included (Abnar and Zuidema 2020)."""
    rolled: list[torch.Tensor] = []
    for cell in zip(*attention, strict=True):
        total = torch.eye(cell[0].shape[-1], device=cell[0].device)
        for weights in cell:
            mixed = weights.mean(0) + torch.eye(weights.shape[-1], device=weights.device)
            total = mixed / mixed.sum(-1, keepdim=True) @ total
        rolled.append(total)
    return rolled


def dense_values(batch: TokenBatch, n_ids: int) -> torch.Tensor:
    """Return ``(N, n_ids)``: each cell's values by id, 1 where tokens have no value."""
    values = torch.ones(len(batch.ids), device=batch.device)
    values = values if batch.values is None else batch.values
    out = values.new_zeros(batch.n_cells * n_ids)
    return out.index_add(0, batch.cell_of_token() * n_ids + batch.ids, values).view(-1, n_ids)


def _mask_of(pathways: dict[str, list[int]], n_ids: int) -> torch.Tensor:
    mask = torch.zeros(len(pathways) + 1, n_ids, dtype=torch.bool)
    for row, (name, ids) in enumerate(pathways.items()):
        outside = [i for i in ids if not 0 <= i < n_ids]
        if outside or not ids:
            msg = (
                f"Pathway {name!r} holds {'the ids ' + str(outside[:5]) if ids else 'no ids'}. "
                f"Expected ids from 0 to {n_ids - 1}. Leave out what is not in the vocabulary."
            )
            raise ConfigError(msg)
        mask[row, ids] = True
    mask[-1] = True
    return mask
