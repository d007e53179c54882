"""Exponentially averaged weights (Polyak and Juditsky 1992): w̄ ← β w̄ + (1 − β) w."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["AveragedWeights"]


class AveragedWeights:
    """Hold the average of a model's weights; buffers are copied.

    Parameters
    ----------
    model
        Whose weights are averaged.
    decay
        β.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        for name, value in model.state_dict().items():
            kept = self.weights[name]
            if kept.is_floating_point():
                kept.lerp_(value, 1.0 - self.decay)
            else:
                kept.copy_(value)
