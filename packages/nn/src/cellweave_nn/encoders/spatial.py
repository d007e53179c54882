"""The spatial encoder: cells are tokens, and cells of one sample see each other.

Wen et al. 2024 (CellPLM); Wu et al. 2022 (flow attention):

    cell_i = MLP(Σ_g value(g)·E_g) + plane(x_i, y_i)
    cells of one sample through blocks of flow attention, linear in their number
    token = narrow([E_g ; cell_i]), for objectives that ask for genes

The batch holds the cells of one or more samples, ``context["sample"]`` (one sample when it is
absent) and coordinates ``context["x"]``, ``context["y"]`` (none when absent).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.running import Sequences, run_stack
from cellweave_nn.encoders.settings import settings_of
from cellweave_nn.encoders.transformer import make_kernel, start_small
from cellweave_nn.layers.block import Stack, TransformerBlock
from cellweave_nn.layers.embedding import TokenEmbedding, plane_waves
from cellweave_nn.layers.ragged import cell_mean, cell_sum
from cellweave_nn.layers.tags import Tags
from cellweave_nn.outputs import EncoderOutput

__all__ = ["SpatialEncoder"]


class SpatialEncoder(nn.Module):
    """Encode the cells of a sample together.

    Parameters
    ----------
    n_ids
        Size of the vocabulary.
    width, depth, heads, dropout
        Of the blocks over cells.
    attention
        ``"flow"`` (linear in the number of cells) or ``"full"``.
    scale
        Length, in the unit of the coordinates, that counts as one step between cells.
    """

    def __init__(
        self,
        *,
        n_ids: int,
        width: int = 256,
        depth: int = 4,
        heads: int = 8,
        dropout: float = 0.0,
        attention: Literal["flow", "full"] = "flow",
        scale: float = 10.0,
    ) -> None:
        config = settings_of(locals())
        super().__init__()
        self.config = config
        self.scale = scale
        self.token_width = self.cell_width = width
        self.tokens = TokenEmbedding(n_ids, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width))
        self.plane = nn.Linear(width, width, bias=False)
        blocks = (
            TransformerBlock.simple(
                width,
                heads,
                2 * width,
                norm_first=True,
                dropout=dropout,
                kernel=make_kernel(attention, width // heads),
            )
            for _ in range(depth)
        )
        self.stack = Stack(blocks, last_norm=nn.LayerNorm(width))
        self.narrow = nn.Linear(2 * width, width)
        start_small(self, depth)

    def forward(
        self,
        batch: TokenBatch,
        *,
        padded: bool = False,
        keep_hidden: bool = False,
        keep_attention: bool = False,
    ) -> EncoderOutput:
        """Return a state a cell that knows its neighbours, and states of its genes."""
        cell = batch.cell_of_token()
        genes = self.tokens(batch.ids)
        rows = self.mix(self._expressed(genes, batch, cell)) + self._where(batch)
        sample = batch.context.get("sample", batch.offsets.new_zeros(batch.n_cells))
        names, sample = torch.unique(sample, return_inverse=True)
        order = sample.argsort(stable=True)
        counts = torch.bincount(sample, minlength=len(names))
        sequences = Sequences(
            rows=rows[order],
            offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            lengths=tuple(counts.tolist()),
            tags=Tags(),
        )
        out = run_stack(
            self.stack,
            sequences,
            padded=padded,
            keep_hidden=keep_hidden,
            keep_attention=keep_attention,
        )
        back = order.argsort()
        state = out.states[back]
        return EncoderOutput(
            token_states=self.narrow(torch.cat([genes, state[cell]], dim=-1)),
            cell_state=state,
            token_embeddings=genes,
            hidden=tuple(h[back][cell] for h in out.hidden),
            attention=out.attention,
        )

    def _expressed(
        self, genes: torch.Tensor, batch: TokenBatch, cell: torch.Tensor
    ) -> torch.Tensor:
        if batch.values is None:
            return F.layer_norm(cell_mean(genes, cell, batch.n_cells), genes.shape[1:])
        weight = batch.values if batch.known is None else batch.values * batch.known
        total = cell_sum(genes * weight.clamp_min(0).unsqueeze(-1), cell, batch.n_cells)
        return F.layer_norm(total, genes.shape[1:])

    def _where(self, batch: TokenBatch) -> torch.Tensor:
        if "x" not in batch.context or "y" not in batch.context:
            return self.plane.weight.new_zeros(1)
        place = torch.stack([batch.context["x"], batch.context["y"]], dim=1) / self.scale
        located: torch.Tensor = self.plane(plane_waves(place, self.plane.in_features))
        return located
