"""What stands in a model folder, and the schema its ``config.json`` must fit.

config.json        names and parameters of components, nothing that can run
model.safetensors  weights of encoder and heads
tokenizer/         the fitted tokenizer's state
README.md          the model card
MANIFEST.json      digests of all of it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file

from cellweave.config import ComponentConfig, ConfigModel, load_config
from cellweave.errors import UnreadableFileError
from cellweave.records import ComponentState
from cellweave.storage import atomic_folder, verify_or_raise
from cellweave_nn.models.weights import save_weights
from cellweave_nn.training.settings import ObjectiveConfig

__all__ = ["FolderConfig", "FolderContent", "is_model_folder", "read_folder", "write_folder"]

_KIND = "cellweave_model"
FORMAT = 1


class FolderConfig(ConfigModel):
    """The schema of ``config.json``."""

    kind: str = _KIND
    format: int = FORMAT
    encoder: ComponentConfig
    precision: Literal["fp32", "bf16", "int8"] = Field(
        default="fp32", description="Of the encoder's weights."
    )
    removed_heads: dict[str, list[int]] = Field(
        default_factory=dict, description="Attention layer to the heads that were pruned from it."
    )
    objectives: dict[str, ObjectiveConfig] = Field(default_factory=dict)
    special: dict[str, int] = Field(default_factory=dict)
    labels: dict[str, list[str]] = Field(
        default_factory=dict, description="Context name to the names of its codes."
    )
    seed: int = 0
    version: str
    provenance: dict[str, Any] = Field(default_factory=dict)


class FolderContent:
    """Hold what was read from a model folder.

    Parameters
    ----------
    config
        The checked configuration.
    weights
        All tensors by name.
    tokenizer
        State of the tokenizer.
    card
        The model card's text.
    """

    def __init__(
        self,
        *,
        config: FolderConfig,
        weights: dict[str, torch.Tensor],
        tokenizer: ComponentState,
        card: str,
    ) -> None:
        self.config = config
        self.weights = weights
        self.tokenizer = tokenizer
        self.card = card


def write_folder(folder: str | Path, content: FolderContent) -> None:
    """Write a model folder atomically, its manifest last."""
    with atomic_folder(folder, kind=_KIND) as place:
        text = json.dumps(content.config.model_dump(mode="json"), sort_keys=True, indent=1)
        (place / "config.json").write_text(text)
        save_weights(content.weights, place / "model.safetensors")
        content.tokenizer.save(place / "tokenizer")
        (place / "README.md").write_text(content.card)


def read_folder(folder: str | Path) -> FolderContent:
    """Read a model folder; every digest and every key is checked."""
    folder = Path(folder)
    if not is_model_folder(folder):
        msg = (
            f"{str(folder)!r} is not a model folder: expected config.json of kind {_KIND!r} and "
            "model.safetensors. Give the folder that a run calls `model`."
        )
        raise UnreadableFileError(msg)
    verify_or_raise(folder)
    config = load_config(folder / "config.json", FolderConfig)
    if config.format != FORMAT:
        msg = f"{str(folder)!r} has format {config.format}. This cellweave reads {FORMAT}."
        raise UnreadableFileError(msg + " Update cellweave-nn.")
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        msg = f"Cannot read the weights in {str(folder)!r}: {error}. Save the model again."
        raise UnreadableFileError(msg) from error
    return FolderContent(
        config=config,
        weights=weights,
        tokenizer=ComponentState.load(folder / "tokenizer"),
        card=(folder / "README.md").read_text(),
    )


def is_model_folder(path: Path) -> bool:
    """Tell from names and the kind in ``config.json`` alone."""
    config = path / "config.json"
    if not (config.is_file() and (path / "model.safetensors").is_file()):
        return False
    try:
        values = json.loads(config.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("kind") == _KIND
