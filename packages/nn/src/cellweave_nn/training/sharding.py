"""How ranks share a model: a copy each (DDP), or a shard each (FSDP2).

Li et al. 2020 (DDP); Zhao et al. 2023 (FSDP). Sharded, every parameter, its gradient and its
moments are split along their first axis; each block is gathered when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from cellweave_nn.layers.block import Stack
from cellweave_nn.training.settings import TrainingSettings
from cellweave_nn.training.world import World

__all__ = ["full_tensors", "is_sharded", "local", "shared_among", "synced", "whole"]


def shared_among(model: nn.Module, world: World, settings: TrainingSettings) -> nn.Module:
    """Return what to call in place of the model; sharding changes the model itself."""
    if world.size == 1:
        return model
    if settings.parallel == "fsdp":
        return _sharded(model, world)
    devices = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)


def synced(shared: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Let gradients meet after the last slot of a step only."""
    if isinstance(shared, DistributedDataParallel):
        return nullcontext() if last else shared.no_sync()
    if is_sharded(shared):
        sharded: Any = shared
        sharded.set_requires_gradient_sync(last)
    return nullcontext()


def is_sharded(model: nn.Module) -> bool:
    """Tell whether the parameters are split among ranks."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def full_tensors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gather shards; every rank must call it."""
    return {name: whole(tensor.detach()).cpu() for name, tensor in state.items()}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor; every rank must call it."""
    found: torch.Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return found


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return what of a tensor lies on this rank."""
    found: torch.Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return found


def _sharded(model: nn.Module, world: World) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for stack in [m for m in model.modules() if isinstance(m, Stack)]:
        for block in stack.blocks:
            fully_shard(block, mesh=mesh)
    # The root too gives its parameters back after each pass: who looks at them between steps
    # (optimizer, checkpoint, guard) then finds shards and nothing else.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return model
