"""TOSICA's network.

Chen et al. 2023:

    token_c = masked linear of the genes of pathway c;  x_0 = [CLS, token_1 … token_C]
    x = x + attention(norm(x));  x = x + MLP(norm(x));  latent = norm(x_n)[CLS];  scores = W latent
    rollout = Π_l norm(mean_heads A_l + I);  its CLS row says which pathways decided

Published weights read the outputs of the masked layer in an order in which a token mixes many
pathways (:mod:`cellweave_nn.layers.masked_linear`); ``layout="upstream"`` repeats that.
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.pathway import attention_rollout, dense_values
from cellweave_nn.layers.block import Stack, TransformerBlock, first_states
from cellweave_nn.layers.layout import padded_layout
from cellweave_nn.layers.masked_linear import MaskedLinear
from cellweave_tosica.config import TosicaConfig

__all__ = ["TosicaNetwork"]

_EPS = 1e-6


class TosicaNetwork(nn.Module):
    """Make pathway tokens, run the blocks, and apply the classifier."""

    def __init__(self, config: TosicaConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # The mask is a buffer and comes with the weights.
        mask = torch.ones(len(config.pathways), config.n_ids, dtype=torch.bool)
        self.tokens = MaskedLinear(mask, width, layout=config.layout)
        self.cls = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(
            TransformerBlock.simple(width, config.heads, config.hidden, norm_first=True, eps=_EPS)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.label = nn.Linear(width, len(config.labels)) if config.labels else None

    def embedded(self, batch: TokenBatch) -> torch.Tensor:
        """Return what the first block sees, ``(N, 1 + C, D)``."""
        values = dense_values(batch, self.config.n_ids)
        return torch.cat([self.cls.expand(len(values), 1, -1), self.tokens(values)], dim=1)

    def forward(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the states after ``depth`` blocks (all, and the last norm, when not given)."""
        n = self.config.depth if depth is None else depth
        x = self.embedded(batch)
        layout = padded_layout([x.shape[1]] * len(x))
        for block in list(self.blocks)[:n]:
            x = block(x, layout)
        return self.norm(x) if n == self.config.depth else x

    def first(self, batch: TokenBatch, *, depth: int | None = None) -> torch.Tensor:
        """Return the row that stands for the cell after ``depth`` blocks, ``(N, D)``, alone."""
        n = self.config.depth if depth is None else depth
        x = self.embedded(batch)
        x = first_states(list(self.blocks)[:n], x, padded_layout([x.shape[1]] * len(x)))
        return self.norm(x) if n == self.config.depth else x

    def rollout(self, batch: TokenBatch) -> torch.Tensor:
        """Return ``(N, C)``: how much each pathway decided the cell's state."""
        x = self.embedded(batch)
        layout = padded_layout([x.shape[1]] * len(x))
        out = Stack(self.blocks)(x, layout, keep_attention=True)
        return torch.stack([cell[0, 1:] for cell in attention_rollout(out.attention)])

    def classes(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of the labels, ``(N, n_labels)``."""
        assert self.label is not None
        scores: torch.Tensor = self.label(states[:, 0])
        return scores
