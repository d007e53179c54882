"""How long a phase lasts, and how the learning rate falls.

Lengths are set in units of optimisation progress, learning rate x steps, so that they do not
depend on the number of cells until the floor in epochs is reached:

    epochs(P) = max(P_floor, P / learning_rate / steps_per_epoch)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Annealing", "Schedule", "schedule_for"]

_LEAST_PATIENCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Lengths in epochs, and the number of steps in one."""

    steps_per_epoch: int
    max_epochs: int
    align_burnin: int
    patience: int


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

    ``progress`` and ``min_epochs`` set the longest duration; burn-in and patience keep their
    ratios of 1/6 and 1/12 to it, patience being at least 3 epochs.
    """
    per_epoch = n_cells * train_fraction / batch_size

    def epochs(part: float) -> int:
        enough = progress * part / learning_rate / per_epoch
        return max(1, math.ceil(max(enough, min_epochs * part)))

    return Schedule(
        steps_per_epoch=max(1, math.ceil(per_epoch)),
        max_epochs=epochs(1),
        align_burnin=epochs(1 / 6),
        patience=max(_LEAST_PATIENCE, epochs(1 / 12)),
    )


@dataclass(slots=True, kw_only=True)
class Annealing:
    """Let the learning rate fall once, along a cosine to a hundredth, and end the phase there.

    It falls from half of the longest duration on, or as soon as the validation loss stalls, and
    then for as long as the phase has lasted, so that a run always ends settled. (Cutting the
    rate by ten at each stall and stopping soon after, as the paper does in a budget thirty times
    this one, left the alignment half done: a loss over a few hundred cells stalls by chance.)
    """

    schedule: Schedule
    best: float = math.inf
    stalled: int = 0
    start: int | None = None

    def __post_init__(self) -> None:
        """Start at half of the longest duration unless told otherwise."""
        if self.start is None:
            self.start = self.schedule.max_epochs // 2

    @property
    def end(self) -> int:
        """Give the number of epochs of the phase as it stands."""
        assert self.start is not None, "set when made"
        return min(self.schedule.max_epochs, max(2 * self.start, self.start + 1))

    def rate(self, epoch: int) -> float:
        """Return the multiple of the learning rate for ``epoch``, the first is 0."""
        assert self.start is not None, "set when made"
        part = (epoch - self.start) / max(self.end - self.start, 1)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(max(part, 0.0), 1.0)))

    def observe(self, loss: float, epoch: int, *, burning_in: bool) -> bool:
        """Take in a validation loss; return whether it is the best so far."""
        assert self.start is not None, "set when made"
        improved = loss < self.best
        self.best = min(loss, self.best)
        self.stalled = 0 if improved or burning_in else self.stalled + 1
        if self.stalled >= self.schedule.patience:
            self.start = min(self.start, epoch + 1)
        return improved

    def should_stop(self, epoch: int) -> bool:
        """Tell whether the rate has fallen to its end."""
        return epoch >= self.end

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "stalled": self.stalled, "start": self.start}

    def restore(self, values: dict[str, Any]) -> None:
        """Take back :meth:`to_dict`."""
        self.best = math.inf if values["best"] is None else values["best"]
        self.stalled, self.start = values["stalled"], values["start"]
