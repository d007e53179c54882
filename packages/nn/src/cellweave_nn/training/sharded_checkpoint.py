"""Checkpoints of sharded runs: each rank writes its own shards, as safetensors.

``torch.distributed.checkpoint`` with its safetensors storage: nothing on disk can run code, and no
rank ever holds the whole model. The folder must be one that every rank sees.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from cellweave.storage import atomic_folder
from cellweave_nn.training.checkpoint import (
    Progressed,
    cut_checkpoints,
    place_of,
    progressed_state,
)
from cellweave_nn.training.ema import AveragedWeights
from cellweave_nn.training.world import World

__all__ = ["load_sharded", "save_sharded"]


def save_sharded(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: AveragedWeights | None,
    progressed: Progressed,
    keep: int,
    world: World,
) -> None:
    """Write one checkpoint together, then remove all but the last ``keep``."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    moments, steps = _moments(model, optimizer)
    with _folder_of_all(place_of(folder, progressed), world) as place:
        writer = HuggingFaceStorageWriter(str(place), save_distributed=True)
        save(_weights(model, ema) | moments, storage_writer=writer)
        if world.is_first:
            state = progressed_state(progressed) | {"optimizer_steps": steps}
            (place / "state.json").write_text(json.dumps(state, sort_keys=True))
    if world.is_first:
        cut_checkpoints(folder, keep)


def load_sharded(
    place: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: AveragedWeights | None,
) -> Progressed:
    """Put everything back where it was; each rank reads its own shards."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    values = json.loads((place / "state.json").read_text())
    steps: dict[str, float] = values.pop("optimizer_steps")
    _make_moments(model, optimizer, steps)
    moments, _ = _moments(model, optimizer)
    state = _weights(model, ema) | moments
    load(state, storage_reader=HuggingFaceStorageReader(str(place)))
    _put_scalars_back(model, ema, state)
    return Progressed(**values)


def _weights(model: nn.Module, ema: AveragedWeights | None) -> dict[str, Any]:
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    if ema is not None:
        state |= {f"ema.{k}": v for k, v in ema.weights.items()}
    # A file of shards has no place for tensors without an axis.
    return {k: v if v.dim() else v.reshape(1) for k, v in state.items()}


def _put_scalars_back(
    model: nn.Module, ema: AveragedWeights | None, state: dict[str, torch.Tensor]
) -> None:
    """Copy what had to be given an axis; all else was read in place."""
    targets = {"model.": model.state_dict(), "ema.": ema.weights if ema else {}}
    for prefix, tensors in targets.items():
        for name, tensor in tensors.items():
            if not tensor.dim():
                tensor.copy_(state[prefix + name].reshape(()))


def _moments(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the tensors of the optimizer by name, and its step counts."""
    named = {id(p): n for n, p in model.named_parameters()}
    tensors, steps = {}, {}
    for parameter, entries in optimizer.state.items():
        name = named[id(parameter)]
        steps[name] = float(entries["step"])
        for key, value in entries.items():
            if key != "step":
                tensors[f"optimizer.{name}|{key}"] = value if value.dim() else value.reshape(1)
    return tensors, steps


def _make_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: dict[str, float]
) -> None:
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for name, step in steps.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            "step": torch.tensor(step, device=parameter.device if parameter.is_cuda else "cpu"),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


@contextmanager
def _folder_of_all(place: Path, world: World) -> Iterator[Path]:
    """Yield one temporary folder to every rank; the first publishes it when all are done."""
    if world.is_first:
        with atomic_folder(place, kind="checkpoint") as temporary:
            world.said_by_first(str(temporary))
            yield temporary
            world.barrier()
    else:
        yield Path(world.said_by_first(""))
        world.barrier()
    world.barrier()
