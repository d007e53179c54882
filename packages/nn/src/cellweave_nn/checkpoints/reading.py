"""From a file or folder of weights to tensors by name, whatever container they came in.

Containers: a plain state dict; one saved from DDP (``module.``) or a compiled model; a dictionary
around it (``state_dict``, ``model_state_dict`` … as trainers and Lightning write); several models
nested by name; safetensors; shards with an index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cellweave.errors import UnreadableFileError, one_of
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, Limits, check_name, refuse, size_of
from cellweave_nn.checkpoints.safetensors_files import read_safetensors
from cellweave_nn.checkpoints.torch_files import read_torch_file

__all__ = ["Checkpoint", "find_weights", "read_checkpoint"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_HUGGING_FACE = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Hold the tensors of one model as they were published.

    Parameters
    ----------
    path
        Where they came from.
    tensors
        By name, prefixes of wrappers taken off.
    container
        How they were packed, in words.
    extra
        What stood beside them that is no tensor: epochs, hyper-parameters.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    container: str
    extra: Mapping[str, Any] = field(default_factory=dict)


def find_weights(folder: Path, names: Sequence[str] = _HUGGING_FACE) -> Path | None:
    """Return the first of ``names`` that the folder holds."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_checkpoint(
    path: str | Path,
    *,
    entry: Sequence[str] = (),
    prefixes: Sequence[str] = ("module.", "_orig_mod."),
    limits: Limits = DEFAULT_LIMITS,
) -> Checkpoint:
    """Read weights; no code in the file is run.

    Parameters
    ----------
    path
        File of weights, or an index of shards (``*.index.json``).
    entry
        Names to descend where several models stand in one file, e.g. ``("gene",)``.
    prefixes
        Taken off the names when all of them start so, again and again.
    limits
        How large a file may be.
    """
    path = Path(path)
    if path.name.endswith(".index.json"):
        content, container = _read_shards(path, limits), "shards"
    elif path.suffix == ".safetensors":
        content, container = read_safetensors(path, limits), "safetensors"
    else:
        content, container = read_torch_file(path, limits), "torch"
    tensors, extra, steps = _unwrapped(path, content, entry)
    tensors, stripped = _without_prefixes(tensors, prefixes)
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor)
    if not tensors or len(tensors) > limits.tensors:
        raise refuse(path, f"it holds {len(tensors)} tensors")
    parts = [container, *(f"in {s!r}" for s in steps), *(f"without {s!r}" for s in stripped)]
    return Checkpoint(path=path, tensors=tensors, container=" ".join(parts), extra=extra)


def _read_shards(path: Path, limits: Limits) -> dict[str, Any]:
    size_of(path, limits.header_bytes)
    try:
        places = json.loads(path.read_bytes())["weight_map"]
        files = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refuse(path, f"it is no index of shards ({str(error)[:80]})") from error
    content: dict[str, Any] = {}
    for name in files:
        check_name(path, name)
        shard = path.parent / name
        is_safe = shard.suffix == ".safetensors"
        read = read_safetensors(shard, limits) if is_safe else read_torch_file(shard, limits)
        if not isinstance(read, Mapping):
            raise refuse(shard, "it holds no tensors by name")
        content |= read
    if content.keys() != places.keys():
        odd = sorted(content.keys() ^ places.keys(), key=str)
        raise refuse(path, f"index and shards do not agree on {one_of(map(str, odd))}")
    return content


def _unwrapped(
    path: Path, content: Any, entry: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]]:
    """Descend to the tensors; return them, what stood beside them, and the way."""
    extra: dict[str, Any] = {}
    steps: list[str] = []
    for name in entry:
        if not isinstance(content, Mapping) or name not in content:
            held = one_of(map(str, content)) if isinstance(content, Mapping) else "no names"
            msg = f"{str(path)!r} has no part {name!r}. It has: {held}. Name one of these."
            raise UnreadableFileError(msg)
        steps.append(name)
        content = content[name]
    while isinstance(content, Mapping):
        inner = next((w for w in _WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None or len(steps) > 4:
            break
        extra |= {str(k): v for k, v in content.items() if k != inner and _is_plain(v)}
        steps.append(inner)
        content = content[inner]
    if not isinstance(content, Mapping):
        raise refuse(path, f"it holds a {type(content).__name__}, expected tensors by name")
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    extra |= {str(k): v for k, v in content.items() if k not in tensors}
    if not tensors:
        raise refuse(path, f"there are no tensors in it, only {one_of(map(str, content))}")
    return tensors, extra, steps


def _is_plain(value: Any, depth: int = 6) -> bool:
    if isinstance(value, Mapping):
        return depth > 0 and all(_is_plain(v, depth - 1) for v in value.values())
    if isinstance(value, list | tuple):
        return depth > 0 and len(value) < 10_000 and all(_is_plain(v, depth - 1) for v in value)
    return value is None or isinstance(value, str | int | float | bool)


def _without_prefixes(
    tensors: dict[Any, torch.Tensor], prefixes: Sequence[str]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    stripped: list[str] = []
    while len(stripped) < 8:
        names = [k for k in tensors if isinstance(k, str)]
        found = next((p for p in prefixes if names and all(k.startswith(p) for k in names)), None)
        if found is None or len(names) < len(tensors):
            break
        stripped.append(found)
        tensors = {k.removeprefix(found): v for k, v in tensors.items()}
    return tensors, stripped


def _check_tensor(path: Path, name: object, tensor: torch.Tensor) -> None:
    check_name(path, name)
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise refuse(path, f"tensor {name!r} is {tensor.layout} or quantised, expected plain")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise refuse(path, f"tensor {name!r} {tuple(tensor.shape)} is larger than what it holds")
    if tensor.is_floating_point() and tensor.numel():
        low, high = torch.aminmax(tensor)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise refuse(path, f"tensor {name!r} holds NaN or infinity")
