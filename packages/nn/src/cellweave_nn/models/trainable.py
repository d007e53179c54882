"""A model to train further: a folder of ours, or what the authors of a family publish."""

from __future__ import annotations

from pathlib import Path

import cellweave_nn
from cellweave.config import ComponentConfig
from cellweave.errors import ConfigError
from cellweave.verbs.models import load
from cellweave_nn.checkpoints.family import FamilyModel
from cellweave_nn.encoders.family import FamilyEncoder
from cellweave_nn.models.cell_model import CellModel
from cellweave_nn.models.folder import FolderConfig

__all__ = ["trainable_model"]


def trainable_model(path: str | Path) -> CellModel:
    """Load a model folder, or published weights as one."""
    model = load(path)
    if isinstance(model, CellModel):
        return model
    if isinstance(model, FamilyModel):
        return _of_family(model)
    msg = f"{str(path)!r} holds a {model.family!r}, which this engine cannot train. Give a folder "
    raise ConfigError(msg + "that `cellweave pretrain` wrote, or files of a published family.")


def _of_family(model: FamilyModel) -> CellModel:
    encoder = FamilyEncoder(type(model), model.network)
    config = FolderConfig(
        encoder=ComponentConfig(name=model.family, parameters=encoder.config),
        special=dict(model.tokenizer.vocabulary.special),
        version=cellweave_nn.__version__,
        provenance={"published": model.facts},
    )
    return CellModel(config=config, tokenizer=model.tokenizer, encoder=encoder)
