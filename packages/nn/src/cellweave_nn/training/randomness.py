"""Every random draw is a function of (seed, purpose, step, slot): nothing depends on history."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derived_seed", "generator_for", "torch_seeded"]


def derived_seed(seed: int, *path: int | str) -> int:
    """Return a number below 2⁶³ that depends on all of ``seed`` and ``path``."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *path: int | str) -> torch.Generator:
    """Return a CPU generator for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *path))


@contextmanager
def torch_seeded(seed: int, *path: int | str) -> Iterator[None]:
    """Seed torch's global generators inside (dropout, weights); they are as before after it."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(seed, *path))
        yield
