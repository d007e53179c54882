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
    """Return copies on the CPU that share nothing."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
