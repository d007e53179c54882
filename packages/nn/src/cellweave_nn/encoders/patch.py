"""The patch encoder: features in a fixed order (of the genome), cut into patches.

Dosovitskiy et al. 2021 (ViT); scMamba and scPlantFormer for cells:

    patch_p = W · x[p·s : (p+1)·s] + place_p;   blocks over the patches;   cell = pool

Departure: patches without any value are left out, so sparse data (ATAC) cost what they hold.
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.running import Sequences, run_stack
from cellweave_nn.encoders.settings import settings_of
from cellweave_nn.encoders.transformer import start_small
from cellweave_nn.layers.block import Stack, TransformerBlock
from cellweave_nn.layers.ragged import cell_mean
from cellweave_nn.layers.tags import Tags
from cellweave_nn.outputs import EncoderOutput

__all__ = ["PatchEncoder"]


class PatchEncoder(nn.Module):
    """Encode runs of neighbouring features.

    Parameters
    ----------
    n_ids
        Number of features; an id is a feature's place in the order.
    patch
        Features a patch.
    width, depth, heads, dropout
        Of the blocks.
    skip_empty
        Whether patches without values are left out.
    """

    def __init__(
        self,
        *,
        n_ids: int,
        patch: int = 64,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        dropout: float = 0.0,
        skip_empty: bool = True,
    ) -> None:
        config = settings_of(locals())
        super().__init__()
        self.config = config
        self.patch, self.skip_empty = patch, skip_empty
        self.n_patches = -(-n_ids // patch)
        self.token_width = self.cell_width = width
        self.project = nn.Linear(patch, width)
        self.places = nn.Embedding(self.n_patches, width)
        blocks = (
            TransformerBlock.simple(width, heads, 4 * width, norm_first=True, dropout=dropout)
            for _ in range(depth)
        )
        self.stack = Stack(blocks, last_norm=nn.LayerNorm(width))
        start_small(self, depth)
        nn.init.normal_(self.project.weight, std=patch**-0.5)

    def forward(
        self,
        batch: TokenBatch,
        *,
        padded: bool = False,
        keep_hidden: bool = False,
        keep_attention: bool = False,
    ) -> EncoderOutput:
        """Return a cell state, and for each token the state of its patch."""
        cell = batch.cell_of_token()
        slot = cell * self.n_patches + torch.div(batch.ids, self.patch, rounding_mode="floor")
        present, of_token = self._present(slot, batch.n_cells)
        values = torch.ones_like(batch.ids, dtype=torch.float32)
        values = values if batch.values is None else batch.values
        content = values.new_zeros(len(present) * self.patch)
        content = content.index_add(0, of_token * self.patch + batch.ids % self.patch, values)
        rows = self.project(content.view(-1, self.patch)) + self.places(present % self.n_patches)
        owner = torch.div(present, self.n_patches, rounding_mode="floor")
        out = run_stack(
            self.stack,
            _sequences(rows, owner, batch.n_cells),
            padded=padded,
            keep_hidden=keep_hidden,
            keep_attention=keep_attention,
        )
        return EncoderOutput(
            token_states=out.states[of_token],
            cell_state=cell_mean(out.states, owner, batch.n_cells),
            hidden=tuple(h[of_token] for h in out.hidden),
            attention=out.attention,
        )

    def _present(self, slot: torch.Tensor, n_cells: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which (cell, patch) slots are encoded, and where each token finds its own."""
        if self.skip_empty:
            present, of_token = torch.unique(slot, return_inverse=True)
            return present, of_token
        return torch.arange(n_cells * self.n_patches, device=slot.device), slot


def _sequences(rows: torch.Tensor, owner: torch.Tensor, n_cells: int) -> Sequences:
    counts = torch.bincount(owner, minlength=n_cells)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Sequences(rows=rows, offsets=offsets, lengths=tuple(counts.tolist()), tags=Tags())
