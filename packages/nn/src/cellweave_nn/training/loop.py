"""The training loop.

    for each step:  for each slot of this rank:  corrupt, encode, loss, backward
                    clip, set the rate, AdamW, average, log, save

Order, corruption and dropout of a slot are functions of (seed, step, slot): a run that was killed
and goes on from a checkpoint makes the same steps as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from cellweave.errors import ConfigError
from cellweave.records import Progress, ProgressCallback
from cellweave_nn.layers.block import Stack, TransformerBlock
from cellweave_nn.training.checkpoint import (
    Progressed,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from cellweave_nn.training.ema import AveragedWeights
from cellweave_nn.training.guard import check_gradients, check_loss
from cellweave_nn.training.model import PretrainingModel
from cellweave_nn.training.pace import Pace
from cellweave_nn.training.randomness import derived_seed, generator_for, torch_seeded
from cellweave_nn.training.run_folder import RunFolder
from cellweave_nn.training.schedules import learning_rate
from cellweave_nn.training.settings import TrainingSettings
from cellweave_nn.training.sharded_checkpoint import load_sharded, save_sharded
from cellweave_nn.training.sharding import is_sharded, shared_among, synced, whole
from cellweave_nn.training.sinks import MetricSink, opened
from cellweave_nn.training.source import DataOrder, TokenSource, prefetched, to_device
from cellweave_nn.training.world import World

__all__ = ["Trained", "Trainer", "make_optimizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Say how a run ended: all its steps done, or stopped when asked to."""

    step: int
    finished: bool
    metrics: dict[str, float]


@dataclass(slots=True, kw_only=True)
class Trainer:
    """Train one model on one source.

    Parameters
    ----------
    model
        Encoder, heads and objectives; on the world's device.
    source
        Where batches come from.
    settings
        How to train.
    seed
        What every draw depends on.
    run
        Where metrics and checkpoints go; ``None`` writes nothing.
    world
        The ranks.
    progress
        Called after each logged step.
    stop
        Asked before each step; yes writes a checkpoint of what is not in one yet, and ends.
    sinks
        Where metrics go besides the run.
    """

    model: PretrainingModel
    source: TokenSource
    settings: TrainingSettings
    seed: int = 0
    run: RunFolder | None = None
    world: World = field(default_factory=World)
    progress: ProgressCallback | None = None
    stop: Callable[[], bool] = lambda: False
    sinks: tuple[MetricSink, ...] = ()
    progressed: Progressed = field(default_factory=Progressed)
    pace: Pace = field(default_factory=lambda: Pace(cells=0))
    ema: AveragedWeights | None = None

    def train(self) -> Trained:
        """Do the steps that are left, from the last checkpoint on."""
        self._check()
        self._prepare_blocks()
        shared = shared_among(self.model, self.world, self.settings)
        optimizer = make_optimizer(self.model, self.settings)
        if self.settings.ema:
            self.ema = AveragedWeights(self.model, self.settings.ema)
        self._resume(optimizer)
        self.model.train()
        scaler = torch.amp.GradScaler("cuda", enabled=self.settings.precision == "fp16")
        if self.progressed.scaler:
            scaler.load_state_dict(self.progressed.scaler)
        training, held_out = self.split()
        order = DataOrder(n_cells=len(training), size=self.settings.cells_per_slot, seed=self.seed)
        batches = prefetched(
            self.source,
            (training[order.cells(k)] for k in self._slots()),
            workers=self.settings.workers,
        )
        metrics: dict[str, float] = {}
        saved = self.progressed.step
        self.pace = self._begun_pace()
        with opened(self.sinks, self.progressed.step):
            for step in range(self.progressed.step, self.settings.steps):
                if self.world.any(self.stop()):
                    if step > saved:
                        self._save(optimizer, scaler)
                    return Trained(step=step, finished=False, metrics=metrics)
                begun = time.perf_counter()
                cells = [training[order.cells(k)] for k in self._slots_of(step)]
                metrics = self._step(step, shared, optimizer, scaler, batches, cells)
                if self._is_due(step, self.settings.validate_every) and len(held_out):
                    metrics["validation_loss"] = self.validate(held_out)
                self._log(step, metrics, time.perf_counter() - begun)
                if self._is_due(step, self.settings.save_every):
                    self._save(optimizer, scaler)
                    saved = step + 1
        return Trained(step=self.settings.steps, finished=True, metrics=metrics)

    @torch.no_grad()
    def validate(self, held_out: np.ndarray) -> float:
        """Return the mean loss of held-out cells, corrupted the same way each time."""
        was_training = self.model.training
        self.model.eval()
        total, count = 0.0, 0
        size, ranks = self.settings.cells_per_slot, self.world.size
        starts = range(0, len(held_out), size)
        # Every rank takes as many turns, because a sharded model runs on all of them at once.
        for turn in range(-(-len(starts) // ranks)):
            index = min(turn * ranks + self.world.rank, len(starts) - 1)
            rows = held_out[starts[index] : starts[index] + size]
            batch = to_device(self.source.batch(rows), self.world.device)
            generator = generator_for(self.seed, "validation", index)
            with self._autocast():
                terms = self.model(self.model.objective.corrupt(batch, generator))
            if turn * ranks + self.world.rank < len(starts):
                total += sum(term.item() for term in terms.values())
                count += 1
        self.model.train(was_training)
        total, counted = self.world.mean([total, count])
        return total / counted

    def _step(
        self,
        step: int,
        shared: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        batches: Iterator[Any],
        cells: list[np.ndarray],
    ) -> dict[str, float]:
        rate = learning_rate(step, self.settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        tokens = 0
        for index, slot in enumerate(self._slots_of(step)):
            batch = to_device(next(batches), self.world.device)
            tokens += batch.n_tokens
            last = index == len(cells) - 1
            with synced(shared, last=last), torch_seeded(self.seed, "dropout", slot):
                corrupted = self.model.objective.corrupt(
                    batch, generator_for(self.seed, "corruption", slot)
                )
                lengths = corrupted.batch.lengths
                with self._autocast(), self.pace.slot(self.model, lengths):
                    terms = shared(corrupted)
                total = torch.stack(list(terms.values())).sum()
                names = self.source.names(cells[index])
                check_loss(
                    total, terms, model=self.model, batch=corrupted.batch, names=names, step=step
                )
                torch.autograd.backward(scaler.scale(total / len(cells)))
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.item() / len(cells)
        norm = self._update(step, optimizer, scaler, cells)
        self.progressed.step = step + 1
        self.progressed.cells += sum(map(len, cells)) * self.world.size
        all_tokens = round(self.world.mean([tokens])[0] * self.world.size)
        self.progressed.tokens += all_tokens
        means = self.world.mean(list(sums.values()))
        found = dict(zip(sums, means, strict=True))
        return {
            "loss": sum(means),
            **found,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens_in_step": float(all_tokens),
        }

    def _update(
        self,
        step: int,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        cells: list[np.ndarray],
    ) -> float:
        scaler.unscale_(optimizer)
        limit = self.settings.clip or float("inf")
        norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if not scaler.is_enabled():  # the scaler of fp16 skips such steps by itself
            names = self.source.names(np.concatenate(cells))
            check_gradients(self.model, norm, names=names, step=step)
        scaler.step(optimizer)
        scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)
        return float(norm)

    def _check(self) -> None:
        problems = []
        if self.settings.slots_per_step % self.world.size:
            problems.append(
                f"training.slots_per_step is {self.settings.slots_per_step}, which "
                f"{self.world.size} ranks cannot share. Make it a multiple."
            )
        if self.settings.precision == "fp16" and self.world.device.type != "cuda":
            problems.append("precision 'fp16' needs a GPU. Use 'bf16' or 'fp32' on the CPU.")
        if problems:
            raise ConfigError(" ".join(problems))

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells to train on and those held out."""
        rng = np.random.default_rng(derived_seed(self.seed, "split"))
        shuffled = rng.permutation(self.source.n_cells)
        n = int(self.source.n_cells * self.settings.validation_fraction)
        return np.sort(shuffled[n:]), np.sort(shuffled[:n])

    def _slots(self) -> Iterator[int]:
        for step in range(self.progressed.step, self.settings.steps):
            yield from self._slots_of(step)

    def _slots_of(self, step: int) -> list[int]:
        """List the slots of this rank, numbered over the whole run."""
        n = self.settings.slots_per_step
        return list(range(step * n + self.world.rank, (step + 1) * n, self.world.size))

    def _is_due(self, step: int, every: int) -> bool:
        return step + 1 == self.settings.steps or bool(every and (step + 1) % every == 0)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.settings.precision == "bf16" else torch.float16
        return torch.autocast(self.world.device.type, dtype=dtype)

    def _prepare_blocks(self) -> None:
        for module in self.model.modules():
            if isinstance(module, Stack):
                module.checkpointing = self.settings.activation_checkpointing
                if self.settings.compile:
                    for block in module.blocks:
                        if isinstance(block, TransformerBlock):
                            block.feedforward.compile(dynamic=True)

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        place = latest_checkpoint(self.run.checkpoints) if self.run else None
        if place is not None:
            load = load_sharded if is_sharded(self.model) else load_checkpoint
            self.progressed = load(place, model=self.model, optimizer=optimizer, ema=self.ema)
        if self.run and self.world.is_first:
            self.run.cut_metrics(self.progressed.step)
        self.world.barrier()

    def _save(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.progressed.scaler = scaler.state_dict() if scaler.is_enabled() else None
        if self.run is None:
            return
        parts: dict[str, Any] = {
            "model": self.model,
            "optimizer": optimizer,
            "ema": self.ema,
            "progressed": self.progressed,
            "keep": self.settings.keep,
        }
        if is_sharded(self.model):
            save_sharded(self.run.checkpoints, world=self.world, **parts)
        elif self.world.is_first:
            save_checkpoint(self.run.checkpoints, **parts)
        self.world.barrier()

    def _begun_pace(self) -> Pace:
        cells = self.settings.cells_per_slot * self.settings.slots_per_step
        if not self.world.is_first or (self.run is None and self.progress is None):
            return Pace(cells=cells)
        return Pace.measured(
            cells=cells, device=self.world.device, precision=self.settings.precision
        )

    def _log(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        left = self.settings.steps - step - 1
        paced = self.pace.step(seconds, tokens=metrics.pop("tokens_in_step"), left=left)
        if not self._is_due(step, self.settings.log_every) or not self.world.is_first:
            return
        seen = {"cells": self.progressed.cells, "tokens": self.progressed.tokens}
        line = {"loss": metrics["loss"], **paced, **metrics, **seen}
        if self.run:
            self.run.add_metrics({"step": step + 1, **line})
        for sink in self.sinks:
            sink.write(step + 1, line)
        if self.progress:
            shown = {k: float(v) for k, v in line.items()}
            total = self.settings.steps
            self.progress(Progress(stage="train", step=step + 1, total=total, metrics=shown))


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Build AdamW; only matrices decay, and only what wants a gradient is there."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in wanted if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in wanted if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )
