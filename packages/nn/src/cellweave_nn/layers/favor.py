"""FAVOR+ kernel attention, linear in length.

Choromanski et al. 2021 (Performer), as scBERT and the decoder of scFoundation use it:

    φ(x) = m^-½ (exp(s xRᵀ − ½ s² ‖x‖² − max) + ε),  s = K^-¼
    out_i = φ(q_i) Σ_j φ(k_j) v_jᵀ / φ(q_i)·Σ_j φ(k_j)

Departures: the maximum over keys is taken per cell, so a cell does not depend on its
neighbours in the batch; ``key_max="batch"`` gives the published behaviour. Padding never counts.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from cellweave_nn.layers.layout import Layout
from cellweave_nn.layers.tags import Tags

__all__ = ["FavorAttention", "orthogonal_features"]


class FavorAttention(nn.Module):
    """Approximate softmax attention by positive random features.

    Parameters
    ----------
    head_width
        K.
    n_features
        m; ``int(K ln K)`` when not given.
    key_max
        ``"cell"`` or ``"batch"``: over what the keys' maximum is taken.
    eps
        ε above.
    """

    projection_matrix: torch.Tensor

    def __init__(
        self,
        head_width: int,
        *,
        n_features: int | None = None,
        key_max: Literal["cell", "batch"] = "cell",
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        self.key_max = key_max
        self.eps = eps
        m = n_features or int(head_width * math.log(head_width))
        self.register_buffer("projection_matrix", orthogonal_features(m, head_width))

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

    def of_rows(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend from a few rows of each cell, ``(B, n, H, K)``, to all; none may be padding."""
        return self._attend(q, k, v, None)

    def received(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, tags: Tags
    ) -> torch.Tensor:
        """Return ``(…, H)``: the weight that each token gets from all of its cell together.

        With A the implied attention, row sums 1: Σ_i A_ij = φ(k_j)·Σ_i φ(q_i) / (φ(q_i)·Σφ(k)),
        linear in length as attention itself.
        """
        return layout.map(self._received, q, k)

    def _received(
        self, q: torch.Tensor, k: torch.Tensor, is_token: torch.Tensor | None
    ) -> torch.Tensor:
        q_f, k_f = self._query_features(q), self._key_features(k, is_token)
        norm = torch.einsum("blhm,bhm->blh", q_f, k_f.sum(1))
        shares = q_f / norm.unsqueeze(-1)
        if is_token is not None:
            shares = shares.masked_fill(~is_token[:, :, None, None], 0.0)
        return torch.einsum("blhm,bhm->blh", k_f, shares.sum(1))

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_token: torch.Tensor | None
    ) -> torch.Tensor:
        if q.device.type == "cpu" and not any(part.requires_grad for part in (q, k, v)):
            return self._attend_by_head(q, k, v, is_token)
        q_f, k_f = self._query_features(q), self._key_features(k, is_token)
        memory = torch.einsum("blhm,blhk->bhmk", k_f, v)
        norm = torch.einsum("blhm,bhm->blh", q_f, k_f.sum(1))
        return torch.einsum("blhm,bhmk->blhk", q_f, memory) / norm.unsqueeze(-1)

    def _attend_by_head(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_token: torch.Tensor | None
    ) -> torch.Tensor:
        """Attend head by head: features of all heads at once leave the cache, and the heap.

        A head's keys are taken below their own maximum; what that is below the cell's is put right
        in their sums: Σ φ(k_j) v_jᵀ = r Σ exp(…) v_jᵀ + ε Σ v_jᵀ. Shares of m cancel.
        """
        hidden = None if is_token is None else ~is_token[:, :, None]
        heads = [self._read_keys(k[:, :, h], v[:, :, h], hidden) for h in range(k.shape[2])]
        top = torch.stack([head[0] for head in heads]).amax(0)
        n = k.shape[1] if is_token is None else is_token.sum(1)[:, None, None]
        out = q.new_empty((*q.shape[:3], v.shape[-1]))
        for h, (own_top, sums, memory, values) in enumerate(heads):
            share = (own_top - top).exp()
            norm = (share * sums + self.eps * n).transpose(1, 2)
            features = self._query_features(q[:, :, h])
            mixed = features @ (share * memory + self.eps * values)
            torch.div(mixed, features @ norm, out=out[:, :, h])
        return out

    def _read_keys(
        self, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """Return a head's maximum, and Σ exp(…), Σ exp(…) vᵀ and Σ v below it."""
        projected, half_norm = self._exponents(k)
        if hidden is not None:
            projected, v = projected.masked_fill(hidden, float("-inf")), v.masked_fill(hidden, 0.0)
        over = (1, 2) if self.key_max == "cell" else (0, 1, 2)
        top = projected.amax(over, keepdim=True)
        features = projected.sub_(half_norm + top).exp_()
        sums = features.sum(1, keepdim=True)
        return top, sums, features.transpose(1, 2) @ v, v.sum(1, keepdim=True)

    def _exponents(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = x.shape[-1] ** -0.25
        projected = (scale * x) @ self.projection_matrix.to(x.dtype).T
        return projected, 0.5 * scale**2 * x.square().sum(-1, keepdim=True)

    def _query_features(self, q: torch.Tensor) -> torch.Tensor:
        projected, half_norm = self._exponents(q)
        top = projected.amax(-1, keepdim=True).detach()
        return self._positive(projected - (half_norm + top))

    def _key_features(self, k: torch.Tensor, is_token: torch.Tensor | None) -> torch.Tensor:
        projected, half_norm = self._exponents(k)
        hidden = None if is_token is None else ~is_token[:, :, None, None]
        seen = projected if hidden is None else projected.masked_fill(hidden, float("-inf"))
        over = (1, 2, 3) if self.key_max == "cell" else (0, 1, 2, 3)
        top = seen.amax(over, keepdim=True).detach()
        features = self._positive(projected - (half_norm + top))
        return features if hidden is None else features.masked_fill(hidden, 0.0)

    def _positive(self, exponent: torch.Tensor) -> torch.Tensor:
        scale = exponent.shape[-1] ** -0.5
        if exponent.requires_grad:
            return (exponent.exp() + self.eps) * scale
        # The largest tensor of all, made for this: no copies of it where no gradient needs them.
        return exponent.exp_().add_(self.eps).mul_(scale)


def orthogonal_features(
    n_features: int, head_width: int, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw ``(m, K)`` rows, orthogonal within blocks of K, with the norms of Gaussian vectors."""
    blocks = []
    for start in range(0, n_features, head_width):
        square = torch.randn(head_width, head_width, generator=generator)
        blocks.append(torch.linalg.qr(square)[0].T[: n_features - start])
    norms = torch.randn(n_features, head_width, generator=generator).norm(dim=1, keepdim=True)
    return norms * torch.cat(blocks)
