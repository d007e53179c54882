"""One fit from checked inputs to a fitted model: phases, anchors, balancing, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.records import Progress
from cellweave_glue.anchors import linked_anchors
from cellweave_glue.balancing import balancing_weights
from cellweave_glue.schedule import Annealing, Schedule, schedule_for
from cellweave_glue.settings import Phase, TrainingSettings, seed_of
from cellweave_glue.training import Trainer

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, ProgressCallback
    from cellweave_glue.checkpoint import Checkpoint
    from cellweave_glue.inputs import ModalityInput

__all__ = ["FitPlan", "Run", "histories", "run_phases", "schedule_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """What the phases do beside training."""

    progress: float
    min_epochs: int
    balance: bool
    n_anchor_neighbours: int
    n_smooth: int


@dataclass(slots=True, kw_only=True)
class Run:
    """Where a fit stands; what a checkpoint keeps beside the trainer's arrays."""

    phase: int = 0
    epoch: int = 0
    annealing: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)

    def note(self, means: Mapping[str, float]) -> None:
        """Add an epoch to the history."""
        for name, value in means.items():
            self.history.setdefault(name, []).append(value)


def schedule_of(
    data: Mapping[str, ModalityInput], settings: TrainingSettings, plan: FitPlan
) -> Schedule:
    """Return the schedule of one phase for these cells."""
    return schedule_for(
        sum(d.n_cells for d in data.values()),
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        train_fraction=1 - settings.validation_fraction,
        progress=plan.progress,
        min_epochs=plan.min_epochs,
    )


def run_phases(
    trainer: Trainer,
    mdata: MuData,
    data: Mapping[str, ModalityInput],
    links: Sequence[FeatureLinks],
    plan: FitPlan,
    checkpoint: Checkpoint,
    progress: ProgressCallback | None,
) -> Run:
    """Pretrain, balance, align; go on from a checkpoint where there is one."""
    settings = trainer.settings
    schedule = schedule_of(data, settings, plan)
    phases = (
        Phase(name="pretraining", number=0, schedule=schedule, aligned=False),
        Phase(name="alignment", number=1, schedule=schedule, aligned=True),
    )
    if settings.lam_anchor > 0:
        anchors = linked_anchors(
            mdata,
            data,
            links,
            n_neighbours=plan.n_anchor_neighbours,
            n_smooth=plan.n_smooth,
            seed=seed_of(settings.seed, 107),
        )
        trainer.set_anchors(anchors)
    run, resumed = _resumed(checkpoint, trainer, phases)
    for phase in phases[run.phase :]:
        if not resumed:
            _begin(trainer, phase, run, plan)
        _run_phase(trainer, phase, run, checkpoint, progress)
        run.phase, run.epoch, resumed = phase.number + 1, 0, False
    return run


def _begin(trainer: Trainer, phase: Phase, run: Run, plan: FitPlan) -> None:
    if phase.aligned and plan.balance:
        trainer.set_weights(
            balancing_weights(trainer.latents(), seed=seed_of(trainer.settings.seed, 109))
        )
    run.annealing = trainer.start(phase).to_dict()


def _run_phase(
    trainer: Trainer,
    phase: Phase,
    run: Run,
    checkpoint: Checkpoint,
    progress: ProgressCallback | None,
) -> None:
    annealing = Annealing(schedule=phase.schedule)
    annealing.restore(run.annealing)
    total = phase.schedule.max_epochs
    while run.epoch < total and not annealing.should_stop(run.epoch):
        means = trainer.train_epoch(phase, run.epoch, annealing)
        run.epoch += 1
        run.annealing = annealing.to_dict()
        run.note(means)
        checkpoint.write(trainer.arrays(), _kept(run))
        if progress is not None:
            progress(Progress(stage=phase.name, step=run.epoch, total=total, metrics=means))
    run.lengths.append(run.epoch)


def _kept(run: Run) -> dict[str, Any]:
    return {
        "phase": run.phase,
        "epoch": run.epoch,
        "annealing": run.annealing,
        "history": run.history,
        "lengths": run.lengths,
    }


def _resumed(checkpoint: Checkpoint, trainer: Trainer, phases: Sequence[Phase]) -> tuple[Run, bool]:
    state = checkpoint.read()
    if state is None:
        return Run(), False
    run = Run(**state.extra)
    trainer.start(phases[run.phase])
    trainer.restore(state.arrays)
    return run, True


def histories(run: Run) -> dict[str, np.ndarray]:
    """Return the history as arrays."""
    return {name: np.asarray(values, dtype=np.float64) for name, values in run.history.items()}
