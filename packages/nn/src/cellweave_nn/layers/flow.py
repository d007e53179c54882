"""Flow attention, linear in length.

Wu et al. 2022 (Flowformer), as CellPLM uses it; q, k through a sigmoid:

    I_i = 1/⟨q_i+ε, Σk+ε⟩,  O_j = 1/⟨k_j+ε, Σq+ε⟩
    Î_i = ⟨q_i+ε, Σ_j k_j O_j+ε⟩,  Ô_j = clip(⟨k_j+ε, Σ_i q_i I_i+ε⟩, −1, 1)
    out_i = σ(Î_i n/m) (q_i I_i)ᵀ Σ_j k_j (v_j softmax_j(Ô) m)

n queries, m keys; here both are the tokens of one cell, padding never counts.
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave_nn.layers.layout import Layout
from cellweave_nn.layers.tags import Tags

__all__ = ["FlowAttention"]


class FlowAttention(nn.Module):
    """Let value flow from keys that compete to queries that are limited."""

    def __init__(self, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layout: Layout,
        tags: Tags,
    ) -> torch.Tensor:
        """Attend within each cell."""
        return layout.map(self._attend, q, k, v)

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_token: torch.Tensor | None
    ) -> torch.Tensor:
        q, k = torch.sigmoid(q), torch.sigmoid(k)
        count = q.new_full((len(q), 1, 1), q.shape[1])
        if is_token is not None:
            shown = is_token[:, :, None, None]
            q, k, v = (t.masked_fill(~shown, 0.0) for t in (q, k, v))
            count = is_token.sum(1).clamp_min(1).to(q.dtype)[:, None, None]
        incoming = 1.0 / self._dot(q, k.sum(1, keepdim=True))
        outgoing = 1.0 / self._dot(k, q.sum(1, keepdim=True))
        conserved_in = self._dot(q, (k * outgoing.unsqueeze(-1)).sum(1, keepdim=True))
        conserved_out = self._dot(k, (q * _hide(incoming, is_token).unsqueeze(-1)).sum(1, True))
        competition = _softmax(conserved_out.clamp(-1.0, 1.0), is_token) * count
        memory = torch.einsum("blhk,blhd->bhkd", k, v * competition.unsqueeze(-1))
        out = torch.einsum("blhk,bhkd->blhd", q * incoming.unsqueeze(-1), memory)
        return out * torch.sigmoid(conserved_in).unsqueeze(-1)

    def _dot(self, x: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        return ((x + self.eps) * (total + self.eps)).sum(-1)


def _hide(x: torch.Tensor, is_token: torch.Tensor | None) -> torch.Tensor:
    return x if is_token is None else x.masked_fill(~is_token[:, :, None], 0.0)


def _softmax(x: torch.Tensor, is_token: torch.Tensor | None) -> torch.Tensor:
    if is_token is not None:
        x = x.masked_fill(~is_token[:, :, None], float("-inf"))
    return x.softmax(1)
