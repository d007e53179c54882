"""The configuration of a training run; unknown keys are refused, every problem is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cellweave.config import ComponentConfig, ConfigModel

__all__ = [
    "CardConfig",
    "ObjectiveConfig",
    "PretrainConfig",
    "PretrainingSettings",
    "TrainingSettings",
]


class TrainingSettings(ConfigModel):
    """How to train.

    A step updates the weights once, from ``slots_per_step`` slots of ``cells_per_slot`` cells.
    The slots are shared out among the ranks and run one after another on each (accumulation),
    so the numbers of a run do not depend on how many ranks share the work, beyond rounding.
    """

    steps: int = Field(default=1000, ge=1)
    cells_per_slot: int = Field(default=32, ge=1)
    slots_per_step: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["constant", "linear", "cosine", "stable_decay"] = "cosine"
    warmup: int = Field(default=0, ge=0, description="Steps of linear warm-up.")
    floor: float = Field(default=0.1, ge=0, le=1, description="Last rate over the highest.")
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, ge=0, description="Largest gradient norm; 0 for none.")
    ema: float = Field(default=0.0, ge=0, lt=1, description="Decay of averaged weights; 0: none.")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="What ranks hold: a copy of the model each, or a shard each."
    )
    compile: bool = False
    activation_checkpointing: bool = False
    validation_fraction: float = Field(default=0.0, ge=0, lt=1)
    validate_every: int = Field(default=0, ge=0, description="Steps; 0: at the end only.")
    save_every: int = Field(default=200, ge=1)
    keep: int = Field(default=2, ge=1, description="Checkpoints kept.")
    log_every: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0)
    device: str = "auto"

    @model_validator(mode="after")
    def _fits(self) -> TrainingSettings:
        if self.warmup > self.steps:
            msg = f"warmup ({self.warmup}) must not exceed steps ({self.steps})"
            raise ValueError(msg)
        return self


class PretrainingSettings(TrainingSettings):
    """How to pretrain: as for any training, with what was best for cells of several data sets."""

    cells_per_slot: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _warms_up(cls, given: Any) -> Any:
        """Warm up for a twentieth of the steps unless told otherwise."""
        if not isinstance(given, Mapping) or "warmup" in given:
            return given
        steps = given.get("steps", cls.model_fields["steps"].default)
        return {**given, "warmup": steps // 20} if isinstance(steps, int) else given


class ObjectiveConfig(ComponentConfig):
    """An objective by its registry name, and what its terms count."""

    weight: float = 1.0


class CardConfig(ConfigModel):
    """What only a person can say about a model."""

    title: str = ""
    description: str = ""
    licence: str = ""
    intended_use: str = ""
    data_licence: str = ""


# What held-out parts of training cells were best told apart by (benchmarks/bench_pretraining.py).
_TOKENIZER = ComponentConfig(name="nn.nonzero", parameters={"limit": 512, "weigh": "rarity"})
_ENCODER = ComponentConfig(
    name="nn.transformer",
    parameters={
        "width": 128,
        "depth": 2,
        "heads": 4,
        "hidden": 256,
        "values": "continuous",
        "input_norm": False,
        "pooling": "weighted",
        "residual_pooling": True,
    },
)
_OBJECTIVES = {
    "views": ObjectiveConfig(name="nn.two_views", parameters={"left_out": 0.75}),
    "gep": ObjectiveConfig(name="nn.masked_value"),
    "mvc": ObjectiveConfig(name="nn.cell_conditioned"),
}


class PretrainConfig(ConfigModel):
    """A whole pretraining: data, parts, training, where it goes.

    ``data`` and ``output`` are enough; every part that is left out is what was best for cells.
    """

    data: list[Path] | Path = Field(description="Files of cells, e.g. one or more .h5ad.")
    modality: str | None = Field(default=None, description="Which, when a file holds several.")
    output: Path = Field(description="The run folder.")
    tokenizer: ComponentConfig = _TOKENIZER
    encoder: ComponentConfig = _ENCODER
    objectives: dict[str, ObjectiveConfig] = Field(default_factory=lambda: dict(_OBJECTIVES))
    start: Literal["auto", "random", "factors"] = Field(
        default="auto",
        description="Where embeddings of genes start: from factors of the data (auto: where the "
        "encoder can use them) or at random.",
    )
    context: list[str] = Field(
        default_factory=list, description="`obs` columns that objectives read, e.g. cell_type."
    )
    training: PretrainingSettings = PretrainingSettings()
    card: CardConfig = CardConfig()
    sinks: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        default_factory=list, description="Where metrics go besides metrics.jsonl."
    )
    report: bool = Field(default=True, description="Whether to write report.html.")
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """Return everything that decides numbers, flat, by dotted name."""
        values = self.model_dump(mode="json", exclude={"output", "card", "sinks", "report"})
        for name in ("save_every", "keep", "log_every", "workers"):
            values["training"].pop(name)
        return _flat(values)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
