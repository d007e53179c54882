"""How fast a run goes: tokens, cells and matrix products a second, and when it will be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from cellweave_nn.training.work import Work, counted_work, gemm_rate

__all__ = ["Pace"]

# The first step of a process pays for allocation and compilation; no forecast is made from it.
_WARM_STEPS = 1


@dataclass(slots=True, kw_only=True)
class Pace:
    """Follow the pace of one rank.

    Parameters
    ----------
    cells
        Cells of a step, over all ranks.
    rate
        Floating-point operations a second of one large matrix product; 0 measures no MFU.
    work
        What the first slot needed.
    operations
        What this rank did in the step under way.
    seconds, steps
        Of the steps that a forecast is made from.
    """

    cells: int
    rate: float = 0.0
    work: Work | None = None
    operations: float = 0.0
    seconds: float = 0.0
    steps: int = -_WARM_STEPS

    @classmethod
    def measured(cls, *, cells: int, device: torch.device, precision: str) -> Pace:
        """Measure what the device can do, then begin."""
        return cls(cells=cells, rate=gemm_rate(device, precision))

    @contextmanager
    def slot(self, model: nn.Module, lengths: Sequence[int]) -> Iterator[None]:
        """Count one slot; the first is watched closely."""
        if not self.rate:
            yield
            return
        if self.work is None:
            with counted_work(model, lengths) as work:
                yield
            self.work = work
        else:
            yield
        self.operations += self.work.of(lengths)

    def step(self, seconds: float, *, tokens: float, left: int) -> dict[str, float]:
        """End a step and say how fast it was and how long the ``left`` ones will take."""
        self.steps += 1
        if self.steps > 0:
            self.seconds += seconds
        mean = self.seconds / self.steps if self.steps > 0 else seconds
        found = {"tokens_per_second": tokens / seconds, "cells_per_second": self.cells / seconds}
        if self.rate:
            found["mfu"] = self.operations / seconds / self.rate
        found |= {"eta_seconds": mean * left, "seconds": seconds}
        self.operations = 0.0
        return found
