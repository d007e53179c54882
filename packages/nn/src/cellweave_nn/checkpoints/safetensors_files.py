"""Read safetensors: the header is checked first, then the library reads it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cellweave_nn.checkpoints.limits import Limits, refuse, size_of

__all__ = ["read_safetensors", "safetensors_names"]


def read_safetensors(path: Path, limits: Limits) -> dict[str, torch.Tensor]:
    """Return the tensors by name."""
    safetensors_names(path, limits)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise refuse(path, f"it is damaged ({error})") from error


def safetensors_names(path: Path, limits: Limits) -> dict[str, tuple[int, ...]]:
    """Return names and shapes from the header alone."""
    size = size_of(path, limits.file_bytes)
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 0 < length <= min(limits.header_bytes, size - 8):
            raise refuse(path, f"its header claims {length} bytes in a file of {size}")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        shapes = {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise refuse(path, f"its header is no JSON of tensors ({str(error)[:80]})") from error
    if len(shapes) > limits.tensors:
        raise refuse(path, f"it has {len(shapes)} tensors, expected at most {limits.tensors}")
    return shapes
