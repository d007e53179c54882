"""Pretrain a model from a configuration: data in, run folder and model folder out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

import cellweave_nn
from cellweave.config import ComponentConfig, load_config
from cellweave.errors import DataError
from cellweave.records import ProgressCallback, Tokens
from cellweave_nn.joined_tokenizer import SEVERAL
from cellweave_nn.models.build import build_encoder, build_objectives, build_tokenizer
from cellweave_nn.models.card import model_card
from cellweave_nn.models.cell_model import CellModel
from cellweave_nn.models.folder import FolderConfig
from cellweave_nn.training.checkpoint import latest_checkpoint
from cellweave_nn.training.loop import Trained, Trainer
from cellweave_nn.training.model import PretrainingModel
from cellweave_nn.training.randomness import torch_seeded
from cellweave_nn.training.report import write_run_report
from cellweave_nn.training.run_folder import RunFolder
from cellweave_nn.training.settings import PretrainConfig
from cellweave_nn.training.sharding import full_tensors, is_sharded
from cellweave_nn.training.sinks import check_sinks, make_sinks
from cellweave_nn.training.source import TokenSource, digest_of_tokens
from cellweave_nn.training.start import can_start_from_factors, start_from_factors
from cellweave_nn.training.world import World, joined_world

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Assembled", "assemble", "pretrain", "read_cells_of", "with_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """Hold the parts of a run before its first step."""

    config: PretrainConfig
    tokenizer: Any
    source: TokenSource
    model: PretrainingModel
    labels: dict[str, list[str]]
    digest: str


def pretrain(
    config: str | Path | PretrainConfig,
    *,
    progress: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train a model, or go on where its run folder stands.

    Parameters
    ----------
    config
        A YAML or JSON file, or the checked configuration.
    progress
        Called after each logged step.
    stop
        Asked before each step; yes writes a checkpoint and ends.

    Returns
    -------
    Trained
        ``output`` then holds the run, and ``output/model`` the model when it is finished.
    """
    checked = config if isinstance(config, PretrainConfig) else load_config(config, PretrainConfig)
    check_sinks(checked.sinks)
    with joined_world(checked.training.device) as world:
        run = RunFolder(path=checked.output)
        if not world.is_first:
            world.barrier()
            return _train(assemble(checked, begun=_has_begun(run)), run, world, None, stop)
        with run.locked():
            parts = assemble(checked, begun=_has_begun(run))
            run.begin(_identity(parts, world), checked.model_dump(mode="json"))
            world.barrier()
            return _train(parts, run, world, progress, stop)


def assemble(config: PretrainConfig, *, begun: bool = False) -> Assembled:
    """Read the data and build every part; nothing is trained yet.

    ``begun`` says that weights will be read from a checkpoint, so that none need be made.
    """
    tokenizer = build_tokenizer(config.tokenizer.name, config.tokenizer.parameters)
    several = tokenizer.modality == SEVERAL
    adata = read_cells_of(config.data, SEVERAL if several else config.modality)
    tokenizer.fit(adata)
    tokens, labels = with_context(tokenizer.encode(adata), adata, config.context)
    objective = build_objectives(config.objectives)
    source = TokenSource.of(tokens, tokenizer.vocabulary, extra=objective.extra_ids)
    parameters = {"n_ids": source.n_ids, **config.encoder.parameters}
    encoder = build_encoder(config.encoder.name, parameters, seed=config.seed)
    if not begun and _from_factors(config, encoder, tokens):
        start_from_factors(encoder, tokens, seed=config.seed)
    with torch_seeded(config.seed, "heads"):
        model = PretrainingModel(encoder, objective)
    return Assembled(
        config=config.model_copy(
            update={"encoder": ComponentConfig(name=config.encoder.name, parameters=parameters)}
        ),
        tokenizer=tokenizer,
        source=source,
        model=model,
        labels=labels,
        digest=digest_of_tokens(tokens),
    )


def _from_factors(config: PretrainConfig, encoder: nn.Module, tokens: Tokens) -> bool:
    if config.start == "auto":
        return can_start_from_factors(encoder, tokens)
    return config.start == "factors"


def read_cells_of(data: list[Path] | Path, modality: str | None) -> AnnData:
    """Read the files of a configuration as one AnnData."""
    import anndata

    paths = data if isinstance(data, list) else [data]
    parts = [_read_one(Path(path), modality) for path in paths]
    if len(parts) == 1:
        return parts[0]
    if modality == SEVERAL:
        msg = f"{len(paths)} files of several modalities cannot be joined. Give one .h5mu file."
        raise DataError(msg)
    adata = anndata.concat(parts, join="outer", index_unique="-", keys=[str(p) for p in paths])
    adata.obs_names_make_unique()
    return adata


def with_context(
    tokens: Tokens, adata: AnnData, keys: list[str], *, named: str = "context"
) -> tuple[Tokens, dict[str, list[str]]]:
    """Add ``obs`` columns to the tokens: numbers as they are, words as codes (unknown is −1)."""
    import pandas as pd

    context, labels = dict(tokens.context), {}
    missing = [key for key in keys if key not in adata.obs]
    if missing:
        msg = f"obs has no column {', '.join(map(repr, missing))}; it has {list(adata.obs)}."
        raise DataError(msg + f" Name one that exists under `{named}`.")
    for key in keys:
        column = adata.obs[key]
        if pd.api.types.is_float_dtype(column):
            context[key] = column.to_numpy(np.float32)
            continue
        words = column.astype("object").where(column.notna(), None)
        labels[key] = sorted({str(w) for w in words if w is not None})
        codes = pd.Categorical([None if w is None else str(w) for w in words], labels[key]).codes
        context[key] = np.asarray(codes, dtype=np.int64)
    return replace(tokens, context=context), labels


def finished_model(parts: Assembled, model: PretrainingModel, trained: Trained) -> CellModel:
    """Put the trained parts together."""
    config = FolderConfig(
        encoder=parts.config.encoder,
        objectives=parts.config.objectives,
        special=parts.source.special,
        labels=parts.labels,
        seed=parts.config.seed,
        version=cellweave_nn.__version__,
        provenance={"data": parts.digest, "torch": torch.__version__},
    )
    card = model_card(
        card=parts.config.card.model_dump(),
        config={
            "encoder": parts.config.encoder.name,
            **parts.config.encoder.parameters,
            "parameters": sum(p.numel() for p in model.parameters()),
            "objectives": ", ".join(o.name for o in parts.config.objectives.values()),
            "tokenizer": parts.config.tokenizer.name,
        },
        data={
            "cells": parts.source.n_cells,
            "tokens": len(parts.source.tokens.ids),
            "vocabulary": parts.source.n_ids,
            "sha256 of tokens": parts.digest,
        },
        training={**parts.config.training.model_dump(mode="json"), "seed": parts.config.seed},
        metrics=trained.metrics,
    )
    return CellModel(
        config=config,
        tokenizer=parts.tokenizer,
        encoder=model.encoder.cpu(),
        heads=model.heads.cpu(),
        card=card,
    )


def _train(
    parts: Assembled,
    run: RunFolder,
    world: World,
    progress: ProgressCallback | None,
    stop: Callable[[], bool],
) -> Trained:
    config = parts.config
    sinks = make_sinks(config.sinks, run.path, config.model_dump(mode="json"))
    trainer = Trainer(
        model=parts.model.to(world.device),
        source=parts.source,
        settings=config.training,
        seed=config.seed,
        run=run,
        world=world,
        progress=progress,
        stop=stop,
        sinks=sinks if world.is_first else (),
    )
    trained = trainer.train()
    model = _with_last_weights(parts, trainer) if trained.finished else None
    if model is not None and world.is_first:
        finished_model(parts, model, trained).save(run.model)
    if config.report and world.is_first:
        write_run_report(run)
    world.barrier()
    return trained


def _has_begun(run: RunFolder) -> bool:
    return latest_checkpoint(run.checkpoints) is not None


def _with_last_weights(parts: Assembled, trainer: Trainer) -> PretrainingModel:
    """Return a whole model with the last weights, averaged ones where there are any."""
    weights = trainer.ema.weights if trainer.ema else parts.model.state_dict()
    if not is_sharded(parts.model):
        parts.model.load_state_dict(weights)
        return parts.model
    encoder = parts.config.encoder
    whole = PretrainingModel(build_encoder(encoder.name, encoder.parameters), parts.model.objective)
    whole.load_state_dict(full_tensors(weights))
    return whole


def _identity(parts: Assembled, world: World) -> dict[str, Any]:
    identity = parts.config.identity()
    identity.pop("data", None)  # what the files hold counts, not where they stand
    return {
        **{k: v for k, v in identity.items() if not k.startswith("data.")},
        "data digest": parts.digest,
        "world size": world.size,
        "cellweave-nn version": cellweave_nn.__version__,
        "torch version": torch.__version__,
    }


def _read_one(path: Path, modality: str | None) -> AnnData:
    import cellweave

    if path.suffix == ".h5ad" and modality != SEVERAL:
        return cellweave.read(f"cells={path}")["cells"]  # any modality, known to a plugin or not
    named = modality is not None and modality != SEVERAL and path.suffix != ".h5mu"
    found = cellweave.read(f"{modality}={path}" if named else path)
    if modality == SEVERAL:
        return found
    modalities = getattr(found, "mod", None)
    if modalities is None:
        return found
    if modality is None and len(modalities) == 1:
        return next(iter(modalities.values()))
    if modality not in modalities:
        msg = f"{str(path)!r} holds {', '.join(modalities)}; `modality` is {modality!r}."
        raise DataError(msg + " Name one of them.")
    return modalities[modality]
