"""Checkpoints: everything the next step depends on, in safetensors and JSON, one folder each."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from cellweave.errors import IntegrityError, StateMismatchError
from cellweave.storage import atomic_folder, verify
from cellweave_nn.models.weights import save_weights
from cellweave_nn.training.ema import AveragedWeights

__all__ = [
    "Progressed",
    "cut_checkpoints",
    "latest_checkpoint",
    "load_checkpoint",
    "place_of",
    "progressed_state",
    "save_checkpoint",
    "strict_load",
]


@dataclass(slots=True, kw_only=True)
class Progressed:
    """Say how far a run is.

    Parameters
    ----------
    step
        Steps done.
    cells, tokens
        How many went through the model, over all ranks.
    scaler
        State of the loss scaler of fp16.
    """

    step: int = 0
    cells: int = 0
    tokens: int = 0
    scaler: dict[str, Any] | None = None


def save_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: AveragedWeights | None,
    progressed: Progressed,
    keep: int,
) -> Path:
    """Write one checkpoint, then remove all but the last ``keep``."""
    place = place_of(folder, progressed)
    with atomic_folder(place, kind="checkpoint") as temporary:
        save_weights(model.state_dict(), temporary / "model.safetensors")
        save_weights(_of_optimizer(model, optimizer), temporary / "optimizer.safetensors")
        if ema is not None:
            save_weights(ema.weights, temporary / "ema.safetensors")
        text = json.dumps(progressed_state(progressed), sort_keys=True)
        (temporary / "state.json").write_text(text)
    cut_checkpoints(folder, keep)
    return place


def place_of(folder: Path, progressed: Progressed) -> Path:
    """Say where the checkpoint of a step stands."""
    return folder / f"step-{progressed.step:09d}"


def progressed_state(progressed: Progressed) -> dict[str, Any]:
    """Return what ``state.json`` holds."""
    names = ("step", "cells", "tokens", "scaler")
    return {name: getattr(progressed, name) for name in names}


def cut_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the last ``keep``."""
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that is whole; a damaged one is passed over."""
    for place in sorted(folder.glob("step-*"), reverse=True):
        try:
            if not verify(place):
                return place
        except IntegrityError:
            continue
    return None


def load_checkpoint(
    place: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: AveragedWeights | None,
) -> Progressed:
    """Put everything back where it was."""
    strict_load(model, load_file(place / "model.safetensors"), source=place)
    _into_optimizer(model, optimizer, load_file(place / "optimizer.safetensors"))
    if ema is not None:
        for name, tensor in load_file(place / "ema.safetensors").items():
            ema.weights[name].copy_(tensor)
    return Progressed(**json.loads((place / "state.json").read_text()))


def strict_load(module: nn.Module, state: dict[str, torch.Tensor], *, source: Path) -> None:
    """Load weights; every key must fit, or both lists are shown."""
    own = module.state_dict()
    missing, unused = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in sorted(own.keys() & state.keys())
        if own[k].shape != state[k].shape
    ]
    if missing or unused or shapes:
        msg = (
            f"The weights in {str(source)!r} do not fit. Missing: {_some(missing)}. "
            f"Not used: {_some(unused)}. Other shapes: {_some(shapes)}. "
            "Load them into the architecture they were saved from."
        )
        raise StateMismatchError(msg)
    module.load_state_dict(state)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more


def _of_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    named = {id(p): n for n, p in model.named_parameters()}
    state: dict[str, torch.Tensor] = {}
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            state[f"{named[id(parameter)]}|{key}"] = torch.as_tensor(value)
    return state


def _into_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, torch.Tensor]
) -> None:
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, tensor in state.items():
        name, _, entry = key.rpartition("|")
        parameter = parameters[name]
        # The fused AdamW wants its count of steps beside the weights as well.
        optimizer.state.setdefault(parameter, {})[entry] = tensor.to(parameter.device)
