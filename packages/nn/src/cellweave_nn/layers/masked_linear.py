"""A linear layer that keeps genes and pathways apart.

Chen et al. 2023 (TOSICA): token c of a cell is a linear map of the genes of pathway c alone.
With W channels a pathway, output row i belongs to pathway ⌊i/W⌋. The published code reshapes so
that token c, channel w reads row w·C + c, which mixes pathways; ``layout="upstream"`` repeats
that for parity, and the default ``"aligned"`` reads row c·W + w.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["MaskedLinear"]


class MaskedLinear(nn.Module):
    """Map ``(N, G)`` values to ``(N, C, W)`` pathway tokens through a 0/1 mask.

    Parameters
    ----------
    mask
        ``(C, G)`` bool: which genes each pathway reads.
    width
        W.
    layout
        ``"aligned"`` or ``"upstream"``, as above.
    """

    mask: torch.Tensor

    def __init__(
        self,
        mask: torch.Tensor,
        width: int,
        *,
        layout: Literal["aligned", "upstream"] = "aligned",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.layout, self.width = layout, width
        self.register_buffer("mask", mask.to(torch.bool))
        rows = len(mask) * width
        self.weight = nn.Parameter(torch.empty(rows, mask.shape[1]))
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None
        read = mask.sum(1).clamp_min(1).to(torch.float32).rsqrt().repeat_interleave(width)
        with torch.no_grad():
            nn.init.uniform_(self.weight, -math.sqrt(3), math.sqrt(3)).mul_(read[:, None])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return one row of W features a pathway."""
        if torch.is_grad_enabled() or values.is_cuda:
            open_ = self.mask.repeat_interleave(self.width, dim=0)
            out = F.linear(values, self.weight * open_, self.bias)
        else:
            out = self._by_pathway(values)
        if self.layout == "aligned":
            return out.view(len(out), -1, self.width)
        return out.view(len(out), self.width, -1).transpose(1, 2)

    def _by_pathway(self, values: torch.Tensor) -> torch.Tensor:
        """Compute the same from the open weights alone: few of them are, and none is copied."""
        counts = self.mask.sum(1).tolist()
        genes = torch.split(self.mask.nonzero()[:, 1], counts)
        columns = values.t().contiguous()
        out = columns.new_empty(len(self.weight), len(values))
        for i, (read, n) in enumerate(zip(genes, counts, strict=True)):
            rows = slice(i * self.width, (i + 1) * self.width)
            if n == self.mask.shape[1]:
                torch.mm(self.weight[rows], columns, out=out[rows])
            else:
                weight = self.weight[rows].index_select(1, read)
                torch.mm(weight, columns.index_select(0, read), out=out[rows])
        rowwise = out.t()
        return rowwise.contiguous() if self.bias is None else rowwise + self.bias
