"""The feed-forward part of a block: plain, gated (SwiGLU), or one expert a modality.

Papers: Shazeer 2020 (GLU variants); Shazeer et al. 2017 (mixture of experts). Experts are chosen
by the token's modality, not by a learned router: nothing to balance, and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from cellweave.errors import ConfigError, DataError, closest
from cellweave_nn.layers.tags import NO_TAGS, Tags

__all__ = ["ACTIVATIONS", "FeedForward", "ModalityExperts", "activation", "gelu"]


def gelu(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    """Apply GELU, on the CPU by columns.

    For rows that lie one after another torch asks oneDNN, which compiles and keeps a kernel for
    every number of rows it meets. Ragged batches bring a new number each time: memory grew by
    megabytes a step, between what was kept. By columns torch uses its own kernel, as fast.
    """
    if x.device.type != "cpu" or x.dim() < 2:
        return F.gelu(x, approximate=approximate)
    return F.gelu(x.mT, approximate=approximate).mT


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "swiglu": F.silu,
}


def activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return an activation by name; ``"swiglu"`` gives the gate's."""
    if name not in ACTIVATIONS:
        msg = f"Unknown activation {name!r}.{closest(name, ACTIVATIONS)} Use one of "
        raise ConfigError(msg + f"{', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]


class FeedForward(nn.Module):
    """Map each row through a wider layer: ``down(act(up(x)))``, gated when ``"swiglu"``.

    Parameters are named ``up``, ``down`` and, when gated, ``gate``.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation_name: str = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.act = activation(activation_name)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.gate = nn.Linear(width, hidden, bias=bias) if activation_name == "swiglu" else None
        self.down = nn.Linear(hidden, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, tags: Tags = NO_TAGS) -> torch.Tensor:
        """Map ``(…, D)`` to ``(…, D)``."""
        up = self.up(x)
        wide = self.act(up) if self.gate is None else self.act(self.gate(x)) * up
        mapped: torch.Tensor = self.down(self.dropout(wide))
        return mapped


class ModalityExperts(nn.Module):
    """Give each modality a feed-forward of its own."""

    def __init__(self, width: int, hidden: int, n_modalities: int, **options: object) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            FeedForward(width, hidden, **options)  # type: ignore[arg-type]
            for _ in range(n_modalities)
        )

    def forward(self, x: torch.Tensor, tags: Tags = NO_TAGS) -> torch.Tensor:
        """Send each row to the expert of its modality."""
        if tags.modality is None:
            msg = "Experts per modality need `modality` in the batch. Encode several modalities."
            raise DataError(msg)
        rows, which = x.reshape(-1, x.shape[-1]), tags.modality.reshape(-1)
        out = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            at = (which == index).nonzero().squeeze(1)
            out = out.index_add(0, at, expert(rows[at]).to(out.dtype))
        return out.view_as(x)
