"""How long a phase lasts, and how the learning rate falls.

Lengths are set in units of optimisation progress, learning rate x steps, so that they do not
depend on the number of cells until the floor in epochs is reached:

    epochs(P) = max(P_floor, P / learning_rate / steps_per_epoch)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Plateau", "Schedule", "schedule_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Lengths in epochs, and the number of steps in one."""

    steps_per_epoch: int
    max_epochs: int
    align_burnin: int
    patience: int
    lr_patience: int


def schedule_for(
    n_cells: int,
    *,
    batch_size: int,
    learning_rate: float,
    train_fraction: float = 0.9,
    progress: float = 48.0,
    min_epochs: int = 48,
) -> Schedule:
    """Return the schedule for ``n_cells`` cells of all modalities together.

    ``progress`` and ``min_epochs`` set the longest duration; burn-in, patience and the patience
    of the learning rate keep their ratios of 1/6, 1/12 and 1/24 to it.
    """
    per_epoch = n_cells * train_fraction / batch_size

    def epochs(part: float) -> int:
        enough = progress * part / learning_rate / per_epoch
        return max(1, math.ceil(max(enough, min_epochs * part)))

    return Schedule(
        steps_per_epoch=max(1, math.ceil(per_epoch)),
        max_epochs=epochs(1),
        align_burnin=epochs(1 / 6),
        patience=epochs(1 / 12),
        lr_patience=epochs(1 / 24),
    )


@dataclass(slots=True, kw_only=True)
class Plateau:
    """Reduce the learning rate when the validation loss stalls; then stop when it stalls again.

    ``anneal_from`` is the part of the longest duration after which the rate falls along a cosine
    to a hundredth of itself, so that a run which is cut by its budget still ends settled.
    """

    schedule: Schedule
    factor: float = 0.1
    anneal_from: float = 0.5
    scale: float = 1.0
    best: float = math.inf
    best_epoch: int = 0
    stalled: int = 0
    n_reductions: int = 0

    def rate(self, epoch: int) -> float:
        """Return the multiple of the learning rate for ``epoch``, the first is 0."""
        start = self.anneal_from * self.schedule.max_epochs
        span = max(self.schedule.max_epochs - start, 1e-9)
        part = min(max((epoch - start) / span, 0.0), 1.0)
        return self.scale * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))

    def observe(self, loss: float, epoch: int, *, burning_in: bool) -> bool:
        """Take in a validation loss; return whether it is the best so far."""
        improved = loss < self.best
        if improved:
            self.best, self.best_epoch = loss, epoch
        if improved or burning_in:
            self.stalled = 0
            return improved
        self.stalled += 1
        if self.stalled > self.schedule.lr_patience:
            self.scale *= self.factor
            self.n_reductions += 1
            self.stalled = 0
        return improved

    def should_stop(self, epoch: int) -> bool:
        """Tell whether patience is over, which needs at least one reduction."""
        return self.n_reductions > 0 and epoch - self.best_epoch >= self.schedule.patience

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        names = ("scale", "best", "best_epoch", "stalled", "n_reductions")
        values = {name: getattr(self, name) for name in names}
        return values | {"best": None if math.isinf(self.best) else self.best}

    def restore(self, values: dict[str, Any]) -> None:
        """Take back :meth:`to_dict`."""
        for name, value in values.items():
            setattr(self, name, math.inf if name == "best" and value is None else value)
