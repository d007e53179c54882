"""The learning rate as a function of the step alone."""

from __future__ import annotations

import math

from cellweave_nn.training.settings import TrainingSettings

__all__ = ["learning_rate"]

_DECAY_SHARE = 0.2


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Return the rate of ``step``, counted from 0: linear warm-up, then the schedule."""
    peak, floor = settings.learning_rate, settings.floor
    if step < settings.warmup:
        return peak * (step + 1) / settings.warmup
    length = max(settings.steps - settings.warmup, 1)
    done = (step - settings.warmup) / length
    if settings.schedule == "cosine":
        return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
    if settings.schedule == "linear":
        return peak * (1 - (1 - floor) * done)
    if settings.schedule == "stable_decay":
        falling = max(0.0, (done - (1 - _DECAY_SHARE)) / _DECAY_SHARE)
        return peak * (1 - (1 - floor) * falling)
    return peak
