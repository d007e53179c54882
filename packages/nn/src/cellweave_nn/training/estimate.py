"""What a run will need: its first steps are made, timed and weighed, and nothing is kept.

    seconds = r (steps · w + validations · w_v / 3),   r = median over timed steps of t_i / w_i

w are the matrix products that a step needs (:mod:`cellweave_nn.training.work`), w_v those of the
held-out cells, forward alone. Steps are timed at the very shapes of the run, so the price of many
small products is in r; w carries it from the cells that were timed to all cells. Steps are made
until some time has passed: a hundred where they are small, three where they are large.

Memory is the most that the process ever held. What a run holds is there by then: cells, tokens,
weights, gradients, moments, averages, and the activations of a slot. The slot of the run that has
most tokens is made too. Checkpoints and the model are written without copies.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cellweave.config import load_config
from cellweave.errors import ConfigError
from cellweave.records import Progress
from cellweave_nn.training.loop import Trainer
from cellweave_nn.training.pretrain import Assembled, assemble
from cellweave_nn.training.settings import PretrainConfig, TrainingSettings
from cellweave_nn.training.source import DataOrder
from cellweave_nn.training.work import Work
from cellweave_nn.training.world import World, joined_world

__all__ = ["RunEstimate", "TimedStep", "estimate", "heaviest_slot", "run_seconds"]

_WARM_STEPS = 2
_FEWEST, _MOST = 3, 100
_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedStep:
    """A step that was made: how long it took, and the lengths of its cells."""

    seconds: float
    tokens: float
    lengths: Sequence[int]


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
    """Make the first steps of a run in memory and carry their price to all of them.

    On this machine, as busy as it is now; files are neither written nor changed, so the time that
    checkpoints take to reach the disk is not in it.
    """
    checked = config if isinstance(config, PretrainConfig) else load_config(config, PretrainConfig)
    settings = checked.training
    with joined_world(settings.device) as world:
        if world.size > 1:
            msg = f"estimate was started in {world.size} processes. Start it in one; ranks share "
            raise ConfigError(msg + "the slots of a step, so divide the time by their number.")
        parts = assemble(checked)
        parts.model.to(world.device)
        timed, work = _timed(parts, settings, world)
        _make_heaviest_slot(parts, settings, world)
        peak = _peak_bytes(world.device)
    lengths = parts.source.tokens.lengths.tolist()
    seconds = run_seconds(timed, work, lengths, settings)
    per_step = seconds / settings.steps
    n = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)
    copies = 3 + bool(settings.ema)
    return RunEstimate(
        parameters=n,
        seconds=seconds,
        seconds_per_step=per_step,
        peak_bytes=peak,
        checkpoint_bytes=4 * n * copies,
        tokens_per_second=statistics.fmean(step.tokens for step in timed) / per_step,
        cells_per_second=settings.cells_per_slot * settings.slots_per_step / per_step,
    )


def run_seconds(
    timed: Sequence[TimedStep], work: Work, lengths: Sequence[int], settings: TrainingSettings
) -> float:
    """Carry the price of some steps to a whole run.

    Parameters
    ----------
    timed
        Steps that were made, at least one.
    work
        What a slot was seen to need.
    lengths
        Of all cells there are, held-out ones included.
    settings
        Of the run.
    """
    rate = statistics.median(step.seconds / work.of(step.lengths) for step in timed)
    a_cell = work.of(lengths) / len(lengths)
    training = settings.steps * settings.slots_per_step * settings.cells_per_slot
    held_out = int(len(lengths) * settings.validation_fraction)
    times = -(-settings.steps // (settings.validate_every or settings.steps))
    return rate * a_cell * (training + times * held_out / 3)


def heaviest_slot(
    lengths: np.ndarray, training: np.ndarray, settings: TrainingSettings, *, seed: int
) -> np.ndarray:
    """Return the cells of the slot that has most tokens, of those of the first epoch."""
    size = settings.cells_per_slot
    order = DataOrder(n_cells=len(training), size=size, seed=seed)
    n_slots = min(settings.steps * settings.slots_per_step, -(-len(training) // size))
    slots = (training[order.cells(k)] for k in range(n_slots))
    return max(slots, key=lambda cells: lengths[cells].sum())


def _make_heaviest_slot(parts: Assembled, settings: TrainingSettings, world: World) -> None:
    """Make two steps of it; the moments of the first are there in the second."""
    trainer = _trainer(parts, settings, world)
    training, _ = trainer.split()
    lengths = parts.source.tokens.lengths
    cells = heaviest_slot(lengths, training, settings, seed=trainer.seed)
    trainer.source = replace(parts.source, tokens=parts.source.tokens.take(cells))
    changes = {"steps": 2, "warmup": 0, "slots_per_step": 1, "validation_fraction": 0.0}
    trainer.settings = settings.model_copy(update=changes)
    trainer.train()


def _trainer(parts: Assembled, settings: TrainingSettings, world: World) -> Trainer:
    return Trainer(
        model=parts.model,
        source=parts.source,
        settings=settings,
        seed=parts.config.seed,
        world=world,
    )


def _first_steps(settings: TrainingSettings) -> TrainingSettings:
    most = min(settings.steps, _WARM_STEPS + _MOST)
    changes = {"steps": most, "warmup": 0, "validation_fraction": 0.0, "log_every": 1}
    return settings.model_copy(update=changes)


def _timed(
    parts: Assembled, settings: TrainingSettings, world: World
) -> tuple[list[TimedStep], Work]:
    """Make steps until enough time has passed; the first ones only warm up."""
    trainer = _trainer(parts, _first_steps(settings), world)
    source = trainer.source
    order = DataOrder(n_cells=source.n_cells, size=settings.cells_per_slot, seed=trainer.seed)
    training, _ = trainer.split()
    made: list[TimedStep] = []
    begun = time.perf_counter()

    def note(report: Progress) -> None:
        n = settings.slots_per_step
        slots = range((report.step - 1) * n, report.step * n)
        cells = training[np.concatenate([order.cells(k) for k in slots])]
        before = sum(step.tokens for step in made)
        made.append(
            TimedStep(
                seconds=report.metrics["seconds"],
                tokens=report.metrics["tokens"] - before,
                lengths=source.tokens.lengths[cells].tolist(),
            )
        )

    def enough() -> bool:
        return len(made) > _FEWEST and time.perf_counter() - begun > _SECONDS

    trainer.progress, trainer.stop = note, enough
    trainer.train()
    assert trainer.pace.work is not None
    return made[min(_WARM_STEPS, len(made) - 1) :], trainer.pace.work


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
