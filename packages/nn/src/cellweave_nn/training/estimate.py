"""What a run will need: a few real steps are made, timed and weighed, and nothing is kept."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cellweave.config import load_config
from cellweave.records import Progress
from cellweave_nn.training.loop import Trainer
from cellweave_nn.training.pretrain import assemble
from cellweave_nn.training.settings import PretrainConfig
from cellweave_nn.training.world import joined_world

__all__ = ["RunEstimate", "estimate"]

_WARM_STEPS = 2
_TIMED_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """Say what a run will need.

    Parameters
    ----------
    parameters
        Numbers that are trained.
    seconds
        Of all steps.
    seconds_per_step
        Of one.
    peak_bytes
        Of memory: of the process on a CPU, of the device on a GPU.
    checkpoint_bytes
        Of one checkpoint.
    tokens_per_second, cells_per_second
        Over all ranks.
    """

    parameters: int
    seconds: float
    seconds_per_step: float
    peak_bytes: int
    checkpoint_bytes: int
    tokens_per_second: float
    cells_per_second: float


def estimate(config: str | Path | PretrainConfig) -> RunEstimate:
    """Make a few steps of a run in memory and scale them up.

    The steps are those the run will begin with, on this machine, so what is measured is what
    will be paid; files are neither written nor changed.
    """
    checked = config if isinstance(config, PretrainConfig) else load_config(config, PretrainConfig)
    settings = checked.training
    few = settings.model_copy(
        update={
            "steps": min(settings.steps, _WARM_STEPS + _TIMED_STEPS),
            "warmup": 0,
            "validation_fraction": 0.0,
            "log_every": 1,
        }
    )
    ends: list[float] = []
    tokens: list[float] = []

    def note(report: Progress) -> None:
        ends.append(time.perf_counter())
        tokens.append(report.metrics["tokens"])

    with joined_world(settings.device) as world:
        parts = assemble(checked)
        begun = time.perf_counter()
        Trainer(
            model=parts.model.to(world.device),
            source=parts.source,
            settings=few,
            seed=checked.seed,
            world=world,
            progress=note,
        ).train()
        peak = _peak_bytes(world.device)
    warm = min(_WARM_STEPS, len(ends) - 1)
    starts = [begun, *ends[:-1]]
    durations = [end - start for start, end in zip(starts, ends, strict=True)][warm:]
    per_step = statistics.fmean(durations)
    n_tokens = (tokens[-1] - (tokens[warm - 1] if warm else 0.0)) / len(durations)
    n = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)
    copies = 3 + bool(settings.ema)
    return RunEstimate(
        parameters=n,
        seconds=per_step * settings.steps,
        seconds_per_step=per_step,
        peak_bytes=peak,
        checkpoint_bytes=4 * n * copies,
        tokens_per_second=n_tokens / per_step,
        cells_per_second=settings.cells_per_slot * settings.slots_per_step / per_step,
    )


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
