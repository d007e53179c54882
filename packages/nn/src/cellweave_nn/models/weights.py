"""Write tensors as safetensors, and tell a full disk as the system tells it."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

__all__ = ["plain_tensors", "save_weights"]

# The library gives the number of the system's error only inside its text.
_IN_TEXT = re.compile(r"os error (\d+)")


def save_weights(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to one file; they may lie anywhere and share memory."""
    try:
        save_file(plain_tensors(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        found = _IN_TEXT.search(str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, str(error), str(path)) from error


def plain_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors on the CPU that share no memory with each other, copied where they must be."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        alone = storage.data_ptr() not in seen and storage.nbytes() == plain.nbytes
        seen.add(storage.data_ptr())
        found[name] = plain if alone else plain.clone()
    return found
