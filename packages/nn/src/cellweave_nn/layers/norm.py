"""Normalisation by name, and the domain-specific batch norm of scGPT.

Papers: Ba et al. 2016 (layer norm); Zhang and Sennrich 2019 (RMS norm); Chang et al. 2019 (DSBN).
"""

from __future__ import annotations

import torch
from torch import nn

from cellweave.errors import ConfigError, closest

__all__ = ["DomainBatchNorm", "make_norm"]

_NORMS = ("layer", "rms", "none")


def make_norm(name: str, width: int, *, eps: float = 1e-5) -> nn.Module:
    """Build ``"layer"``, ``"rms"`` or ``"none"``."""
    if name == "layer":
        return nn.LayerNorm(width, eps=eps)
    if name == "rms":
        return nn.RMSNorm(width, eps=eps)
    if name == "none":
        return nn.Identity()
    msg = f"Unknown norm {name!r}.{closest(name, _NORMS)} Use one of {', '.join(_NORMS)}."
    raise ConfigError(msg)


class DomainBatchNorm(nn.Module):
    """Normalise the tokens of each domain with that domain's own statistics.

    Parameters
    ----------
    width
        Features of a row.
    n_domains
        Number of domains (batches, donors, technologies).
    eps, momentum
        As in batch norm.
    affine
        Whether each domain also has its own scale and shift.
    """

    def __init__(
        self,
        width: int,
        n_domains: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width, eps=eps, momentum=momentum, affine=affine)
            for _ in range(n_domains)
        )

    def forward(self, x_td: torch.Tensor, domain_t: torch.Tensor) -> torch.Tensor:
        """Normalise packed rows; a domain with one row keeps its running statistics."""
        out = torch.zeros_like(x_td)
        for index, norm in enumerate(self.norms):
            rows = (domain_t == index).nonzero().squeeze(1)
            if len(rows):
                out = out.index_copy(0, rows, _normalised(norm, x_td[rows]).to(out.dtype))
        return out


def _normalised(norm: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    assert isinstance(norm, nn.BatchNorm1d)
    if norm.training and len(rows) == 1:
        return nn.functional.batch_norm(
            rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    result: torch.Tensor = norm(rows)
    return result
