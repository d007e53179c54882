"""The ranks of a run: one process, or those that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from cellweave.errors import ConfigError

__all__ = ["World", "joined_world"]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Say which rank this is, of how many, and on which device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Tell whether this rank writes files."""
        return self.rank == 0

    def mean(self, values: list[float]) -> list[float]:
        """Return the mean over ranks of each number."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.device.type != "cpu":
            tensor = tensor.to(torch.float32)
        dist.all_reduce(tensor)
        return [x / self.size for x in tensor.tolist()]

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on any rank."""
        return flag if self.size == 1 else self.mean([float(flag)])[0] > 0

    def said_by_first(self, text: str) -> str:
        """Return the text that the first rank gave."""
        if self.size == 1:
            return text
        said: list[Any] = [text]
        dist.broadcast_object_list(said, src=0)
        return str(said[0])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined_world(device: str = "auto") -> Iterator[World]:
    """Join the ranks that ``torchrun`` started, or be alone; leave them at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield World(device=chosen)
        return
    options: dict[str, Any] = {}
    if chosen.type == "cuda":
        options["device_id"] = chosen
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", **options)
    try:
        yield World(rank=dist.get_rank(), size=size, device=chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        msg = "device='cuda' but torch finds no GPU. Use device='cpu' or 'auto'."
        raise ConfigError(msg)
    if name == "cuda":
        return torch.device("cuda", local_rank)
    try:
        return torch.device(name)
    except RuntimeError:
        msg = f"device is {name!r}, which torch does not know. Use 'auto', 'cpu' or 'cuda'."
        raise ConfigError(msg) from None
