"""A published model in our folder: what was read once is kept in safetensors and JSON.

config.json        family, its settings
model.safetensors  weights by the names of our network
tokenizer/         the tokenizer's state
README.md          what it is and where it came from
MANIFEST.json      digests of all of it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cellweave.errors import StateMismatchError
from cellweave.records import ComponentState
from cellweave.storage import atomic_folder, has_manifest, verify_or_raise
from cellweave_nn.checkpoints.companions import read_json
from cellweave_nn.checkpoints.limits import refuse
from cellweave_nn.checkpoints.reading import read_checkpoint

__all__ = ["PublishedFolder", "is_published_folder", "read_published", "write_published"]

_KIND = "cellweave_published_model"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFolder:
    """Hold what such a folder holds.

    Parameters
    ----------
    family
        Registry name of the component that reads it.
    config
        Its settings as JSON values.
    weights
        Tensors by the names of our network.
    tokenizer
        State of the tokenizer.
    """

    family: str
    config: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    tokenizer: ComponentState


def write_published(folder: str | Path, content: PublishedFolder) -> None:
    """Write the folder atomically, its manifest last."""
    values = {
        "kind": _KIND,
        "format": _FORMAT,
        "family": content.family,
        "config": dict(content.config),
    }
    with atomic_folder(folder, kind=_KIND) as place:
        (place / "config.json").write_text(json.dumps(values, sort_keys=True, indent=1))
        # A clone each: tied weights share memory, which safetensors does not write.
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in content.weights.items()}
        save_file(plain, place / "model.safetensors", metadata={"format": "pt"})
        content.tokenizer.save(place / "tokenizer")
        (place / "README.md").write_text(_card(content.family))


def is_published_folder(path: Path, family: str) -> bool:
    """Tell from names and ``config.json`` whether the folder is of this family."""
    if not (path.is_dir() and has_manifest(path) and (path / "config.json").is_file()):
        return False
    try:
        values = read_json(path / "config.json")
    except (OSError, ValueError):
        return False
    return values.get("kind") == _KIND and values.get("family") == family


def read_published(path: str | Path, family: str) -> PublishedFolder:
    """Read the folder; every digest is checked."""
    path = Path(path)
    if not is_published_folder(path, family):
        raise refuse(path, f"it is no folder that a {family} model was saved to")
    verify_or_raise(path)
    values = read_json(path / "config.json")
    if values.get("format") != _FORMAT or not isinstance(values.get("config"), dict):
        msg = f"{str(path)!r} has format {values.get('format')!r}. This cellweave reads {_FORMAT}."
        raise StateMismatchError(msg + " Update cellweave-nn.")
    return PublishedFolder(
        family=family,
        config=values["config"],
        weights=read_checkpoint(path / "model.safetensors").tensors,
        tokenizer=ComponentState.load(path / "tokenizer"),
    )


def _card(family: str) -> str:
    return (
        f"# A {family} model\n\nRead from files that its authors publish, and saved by cellweave."
        " The licence of the weights is theirs.\n\n```python\nimport cellweave\n\n"
        'model = cellweave.load("path/to/this/folder")\n'
        "embedding = model.embed(adata)\n```\n"
    )
