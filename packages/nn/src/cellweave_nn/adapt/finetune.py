"""Fine-tune a model for labels: all of it, its last blocks, adapters, or a head on top.

The cells of a held-out part are never trained on; with ``group`` whole groups (donors) are held
out, so that no donor is on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

import cellweave_nn
from cellweave.config import ConfigModel, load_config
from cellweave.errors import ConfigError, DataError
from cellweave.records import ProgressCallback, Tokens
from cellweave_nn.adapt.lora import add_lora, merge_lora
from cellweave_nn.layers.block import Stack
from cellweave_nn.models.card import model_card
from cellweave_nn.models.cell_model import CellModel
from cellweave_nn.models.trainable import trainable_model
from cellweave_nn.objectives.composed import Composed, WeightedObjective
from cellweave_nn.objectives.ontology import LabelSupervision
from cellweave_nn.training.loop import Trained, Trainer
from cellweave_nn.training.model import PretrainingModel
from cellweave_nn.training.pretrain import read_cells_of, with_context
from cellweave_nn.training.randomness import derived_seed, torch_seeded
from cellweave_nn.training.report import write_run_report
from cellweave_nn.training.run_folder import RunFolder
from cellweave_nn.training.settings import CardConfig, ObjectiveConfig, TrainingSettings
from cellweave_nn.training.sinks import check_sinks, make_sinks
from cellweave_nn.training.source import TokenSource, digest_of_tokens
from cellweave_nn.training.world import World, joined_world

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["FinetuneConfig", "Finetuned", "finetune"]


class FinetuneConfig(ConfigModel):
    """A whole fine-tuning."""

    model: Path = Field(description="A model folder, or what a family's authors publish.")
    data: list[Path] | Path = Field(description="Labelled cells.")
    label: str = Field(description="`obs` column of labels.")
    output: Path = Field(description="The run folder.")
    modality: str | None = None
    mode: Literal["full", "last", "lora", "probe"] = "full"
    last: int = Field(default=1, ge=1, description="Blocks trained by mode 'last'.")
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    group: str | None = Field(default=None, description="`obs` column held out as a whole.")
    training: TrainingSettings = TrainingSettings(steps=200, learning_rate=1e-3)
    card: CardConfig = CardConfig()
    sinks: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        default_factory=list, description="Where metrics go besides metrics.jsonl."
    )
    report: bool = Field(default=True, description="Whether to write report.html.")
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """Say how it went: the run, what held-out cells say, and how much was trained.

    Held-out cells are asked when training has finished; until then they say NaN.
    """

    trained: Trained
    accuracy: float
    macro_f1: float
    trainable: int
    labels: tuple[str, ...]


def finetune(
    config: str | Path | FinetuneConfig,
    *,
    progress: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Finetuned:
    """Fine-tune a model; ``output/model`` then holds it, with its head."""
    checked = config if isinstance(config, FinetuneConfig) else load_config(config, FinetuneConfig)
    base = trainable_model(checked.model)
    _check(checked, base)
    adata = read_cells_of(checked.data, checked.modality)
    tokens, labels = with_context(
        base.tokenizer.encode(adata), adata, [checked.label], named="label"
    )
    names = labels.get(checked.label, [])
    if len(names) < 2:
        found = f"{len(names)} label" if checked.label in labels else "numbers"
        msg = f"obs[{checked.label!r}] holds {found}. Expected words, at least two different ones."
        raise DataError(msg)
    training, held_out = _split(tokens, adata, checked)
    model = _prepared(base, checked, len(names))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with joined_world(checked.training.device) as world:
        trained = _train(model, base, tokens.take(training), checked, world, progress, stop)
        made, accuracy, f1 = None, float("nan"), float("nan")
        if trained.finished:
            merge_lora(model)
            made = _adapted(base, model.cpu(), checked, names)
            accuracy, f1 = _scored(made, tokens.take(held_out), checked.label)
        done = Finetuned(
            trained=trained,
            accuracy=accuracy,
            macro_f1=f1,
            trainable=trainable,
            labels=tuple(names),
        )
        if made is not None and world.is_first:
            made.card = _card(made, checked, done, len(training), len(held_out))
            made.save(checked.output / "model")
        if checked.report and world.is_first:
            write_run_report(RunFolder(path=checked.output))
    return done


def _check(config: FinetuneConfig, base: CellModel) -> None:
    check_sinks(config.sinks)
    if base.config.precision != "fp32":
        msg = f"{str(config.model)!r} is {base.config.precision}, which cannot be trained. "
        raise ConfigError(msg + "Fine-tune the model it was made from, then quantise that.")
    if config.training.parallel == "fsdp":
        msg = "Fine-tuning keeps a copy of the model on every rank. Set training.parallel to 'ddp'."
        raise ConfigError(msg)


def _prepared(base: CellModel, config: FinetuneConfig, n_labels: int) -> PretrainingModel:
    objective = LabelSupervision(n_labels=n_labels, key=config.label)
    with torch_seeded(config.seed, "label head"):
        model = PretrainingModel(
            base.encoder, Composed(parts={"labels": WeightedObjective(objective=objective)})
        )
        if config.mode == "lora":
            add_lora(model.encoder, rank=config.rank, alpha=config.alpha)
    if config.mode in ("probe", "last"):
        model.encoder.requires_grad_(requires_grad=False)
    if config.mode == "last":
        for block in _last_blocks(model.encoder, config.last):
            block.requires_grad_(requires_grad=True)
    return model


def _last_blocks(encoder: nn.Module, n: int) -> list[nn.Module]:
    stack = getattr(encoder, "stack", None)
    if not isinstance(stack, Stack):
        msg = f"{type(encoder).__name__} has no stack of blocks. Use mode='full' or 'probe'."
        raise ConfigError(msg)
    if n > len(stack.blocks):
        msg = f"last is {n}, but the encoder has {len(stack.blocks)} blocks. Use fewer, or 'full'."
        raise ConfigError(msg)
    return [*stack.blocks][-n:]


def _train(
    model: PretrainingModel,
    base: CellModel,
    tokens: Tokens,
    config: FinetuneConfig,
    world: World,
    progress: ProgressCallback | None,
    stop: Callable[[], bool],
) -> Trained:
    run = RunFolder(path=config.output)
    source = TokenSource(tokens=tokens, special=dict(base.config.special), n_ids=base.n_ids)
    values = config.model_dump(mode="json")
    sinks = make_sinks(config.sinks, run.path, values) if world.is_first else ()
    with run.locked() if world.is_first else nullcontext():
        if world.is_first:
            run.begin(_identity(config, tokens, world), values)
        world.barrier()
        return Trainer(
            model=model.to(world.device),
            source=source,
            settings=config.training,
            seed=config.seed,
            run=run,
            world=world,
            progress=progress,
            stop=stop,
            sinks=sinks,
        ).train()


# What may change between a run and the one that goes on with it.
_FREE = {"output", "card", "data", "training", "model", "sinks", "report"}


def _identity(config: FinetuneConfig, tokens: Tokens, world: World) -> dict[str, Any]:
    keep_free = {"save_every", "keep", "log_every", "workers"}
    training = config.training.model_dump(mode="json", exclude=keep_free)
    values = config.model_dump(mode="json", exclude=_FREE)
    return {
        **values,
        **{f"training.{k}": v for k, v in training.items()},
        "data digest": digest_of_tokens(tokens),
        "world size": world.size,
        "cellweave-nn version": cellweave_nn.__version__,
        "torch version": torch.__version__,
    }


def _split(tokens: Tokens, adata: AnnData, config: FinetuneConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to train on and rows held out; cells without a label are in neither."""
    codes = tokens.context[config.label]
    labelled = np.flatnonzero(codes >= 0)
    rng = np.random.default_rng(derived_seed(config.seed, "held out"))
    if config.group is None:
        shuffled = rng.permutation(labelled)
        n = max(1, round(len(shuffled) * config.held_out))
        return np.sort(shuffled[n:]), np.sort(shuffled[:n])
    if config.group not in adata.obs:
        msg = f"obs has no column {config.group!r}; it has {list(adata.obs)}. Name one as `group`."
        raise DataError(msg)
    groups = adata.obs[config.group].astype(str).to_numpy()
    names = rng.permutation(np.unique(groups[labelled]))
    if len(names) < 2:
        msg = f"obs[{config.group!r}] has one group only, so none can be held out. Leave it out."
        raise DataError(msg)
    chosen = names[: max(1, round(len(names) * config.held_out))]
    out = np.isin(groups[labelled], chosen)
    return labelled[~out], labelled[out]


def _adapted(
    base: CellModel, model: PretrainingModel, config: FinetuneConfig, names: list[str]
) -> CellModel:
    objective = ObjectiveConfig(
        name="nn.labels", parameters={"n_labels": len(names), "key": config.label}
    )
    settings = base.config.model_copy(
        update={
            "objectives": {"labels": objective},
            "labels": {**base.config.labels, config.label: names},
            "seed": config.seed,
        }
    )
    return CellModel(
        config=settings, tokenizer=base.tokenizer, encoder=model.encoder, heads=model.heads
    )


@torch.inference_mode()
def _scored(model: CellModel, tokens: Tokens, label: str) -> tuple[float, float]:
    source = TokenSource(tokens=tokens, special=dict(model.config.special), n_ids=model.n_ids)
    found = []
    for start in range(0, tokens.n_cells, 64):
        batch = source.batch(np.arange(start, min(start + 64, tokens.n_cells)))
        out = model.encode(batch)
        found.append(out.heads["label"](out.cell_state).argmax(-1).numpy())
    predicted, truth = np.concatenate(found), tokens.context[label]
    return float((predicted == truth).mean()), macro_f1(predicted, truth)


def macro_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Average the F1 of every label that occurs in the truth."""
    scores = []
    for code in np.unique(truth):
        hit = np.sum((predicted == code) & (truth == code))
        scores.append(2 * hit / (np.sum(predicted == code) + np.sum(truth == code)))
    return float(np.mean(scores))


def _card(
    model: CellModel, config: FinetuneConfig, done: Finetuned, n_training: int, n_held_out: int
) -> str:
    return model_card(
        card=config.card.model_dump(),
        config={"encoder": model.config.encoder.name, "labels": ", ".join(done.labels)},
        data={
            "cells trained on": n_training,
            "cells held out": n_held_out,
            "split": config.group or "cells",
        },
        training={
            "mode": config.mode,
            "trained parameters": done.trainable,
            **config.training.model_dump(mode="json"),
        },
        metrics={"accuracy": done.accuracy, "macro_f1": done.macro_f1, **done.trained.metrics},
    )
