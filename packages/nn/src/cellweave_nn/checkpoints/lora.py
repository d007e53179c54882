"""Merge low-rank adapters into the weights they were trained on: W + (α / r) · B A.

Hu et al. 2022; files as the PEFT library writes them (``adapter_config.json`` and
``adapter_model.safetensors`` or ``.bin``), LoRA and rank-stabilised LoRA on linear layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints.companions import read_json
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, Limits, refuse
from cellweave_nn.checkpoints.reading import find_weights, read_checkpoint

__all__ = ["ADAPTER_CONFIG", "merge_lora"]

ADAPTER_CONFIG = "adapter_config.json"
_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_NOT_READ = ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")


def merge_lora(
    tensors: Mapping[str, torch.Tensor], folder: Path, *, limits: Limits = DEFAULT_LIMITS
) -> dict[str, torch.Tensor]:
    """Return the tensors with the adapters in ``folder`` merged; every adapter key is used."""
    config = read_json(folder / ADAPTER_CONFIG)
    scale = _scale(folder, config)
    weights = find_weights(folder, _FILES)
    if weights is None:
        raise refuse(folder / _FILES[0], "it is missing beside adapter_config.json")
    adapters = dict(read_checkpoint(weights, limits=limits).tensors)
    merged = dict(tensors)
    for key in [k for k in adapters if k.endswith(".lora_A.weight")]:
        stem = key.removesuffix(".lora_A.weight")
        down, up = adapters.pop(key), adapters.pop(f"{stem}.lora_B.weight", None)
        name = f"{stem.removeprefix(_PREFIX)}.weight"
        merged[name] = _merged(weights, merged.get(name), down, up, scale, name)
    # What is left are whole modules that were trained along (a classifier).
    for key, tensor in adapters.items():
        if "lora_" in key or not key.startswith(_PREFIX):
            msg = f"{str(weights)!r} holds {key!r}. Expected pairs of lora_A and lora_B, or modules"
            raise StateMismatchError(msg + f" under {_PREFIX!r}. Save the adapter again.")
        merged[key.removeprefix(_PREFIX).replace(".modules_to_save", "")] = tensor
    return merged


def _scale(folder: Path, config: Mapping[str, Any]) -> float:
    wrong = [k for k in _NOT_READ if config.get(k)]
    rank, alpha = config.get("r"), config.get("lora_alpha")
    numbers = isinstance(rank, int) and isinstance(alpha, int | float) and rank > 0
    if config.get("peft_type") != "LORA" or wrong or not numbers:
        msg = (
            f"The adapter in {str(folder)!r} is {config.get('peft_type')!r} with r={rank!r}, "
            f"lora_alpha={alpha!r}, {', '.join(wrong) or 'nothing else'}. Expected plain LoRA of "
            "linear layers. Merge it with the library that trained it and save the model whole."
        )
        raise StateMismatchError(msg)
    assert isinstance(rank, int)
    assert isinstance(alpha, int | float)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _merged(
    source: Path,
    base: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor | None,
    scale: float,
    name: str,
) -> torch.Tensor:
    fits = (
        base is not None
        and up is not None
        and (down.dim(), up.dim(), base.dim()) == (2, 2, 2)
        and down.shape[0] == up.shape[1]
        and base.shape == (up.shape[0], down.shape[1])
    )
    if not fits:
        found = None if base is None else tuple(base.shape)
        msg = f"The adapter of {name!r} in {str(source)!r} does not fit a base of shape {found}. "
        raise StateMismatchError(msg + "Give the base model that the adapter was trained on.")
    assert base is not None
    assert up is not None
    return base.float() + scale * (up.float() @ down.float())
