"""The sizes of a published Nicheformer: the tensors say them, its settings must agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["CONTEXT", "TASKS", "NicheformerConfig"]

CONTEXT = ("specie", "assay", "modality")
TASKS = (
    "niche_regression",
    "density_regression",
    "niche_classification",
    "niche_binary_classification",
    "niche_multiclass_classification",
)
_SIZES = {
    "dim_model": "width",
    "dim_feedforward": "hidden",
    "nlayers": "depth",
    "context_length": "n_places",
}
# Rows of the embedding beyond the tokens, and width of a published head.
_SPARE_ROWS = 5
_HEAD_WIDTH = 32

Combine = Literal["mean", "sum", "concat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NicheformerConfig:
    """Hold the sizes of the network and the head of a fine-tuned one.

    Parameters
    ----------
    n_rows, n_ids
        Rows of the embedding, and tokens that the masked head knows.
    width, depth, heads, hidden, n_places
        Model width, blocks, attention heads, feed-forward, longest cell.
    context
        Columns of ``obs`` whose values stand first, in this order.
    cls
        Whether a ``<cls>`` token stands before them (fine-tuned with ``pool="cls"``).
    masked
        Whether there is the head of masked tokens.
    task, n_out
        What the fine-tuned head predicts (empty when not told), and how many numbers.
    n_classes
        Classes of a classifier; ``n_out`` is a multiple.
    layers, combine
        Blocks whose states the head reads, and how they become one.
    extractor, softmax, with_context
        Whether a layer with tanh stands before the head; whether its scores are a distribution;
        whether it averages the context tokens too.
    """

    n_rows: int
    n_ids: int
    width: int
    depth: int
    heads: int
    hidden: int
    n_places: int
    context: tuple[str, ...] = CONTEXT
    cls: bool = False
    masked: bool = True
    task: str = ""
    n_out: int = 0
    n_classes: int = 0
    layers: tuple[int, ...] = ()
    combine: Combine = "mean"
    extractor: bool = False
    softmax: bool = False
    with_context: bool = False

    @property
    def n_dropped(self) -> int:
        """Count the first places that averages leave out: three, whatever stands there."""
        return len(CONTEXT) if self.context else 0

    @classmethod
    def from_published(
        cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, source: Path
    ) -> Self:
        """Take sizes from the tensors and compare them with the settings; every problem is told.

        Parameters
        ----------
        settings
            Lightning's hyper-parameters or a ``config.json``; may be empty.
        tensors, source
            Weights by their plain names, and where they are from.
        """
        sizes = _sizes(tensors, source)
        width = sizes["width"]
        heads = settings.get("nheads", settings.get("num_attention_heads"))
        heads = max(width // _HEAD_WIDTH, 1) if heads is None else heads
        problems = [
            f"{key}={settings[key]!r}, the weights have {sizes[ours]}"
            for key, ours in _SIZES.items()
            if settings.get(key) is not None and settings[key] != sizes[ours]
        ]
        if not _is_size(heads) or width % heads:
            problems.append(f"nheads={heads!r}, expected a divisor of {width}")
        if settings.get("learnable_pe") is False:
            problems.append("learnable_pe=False, expected places that were learnt")
        head = tensors.get("linear_head.weight")
        fine: dict[str, Any] = {}
        if head is not None:
            fine, more = _head(settings, head, sizes)
            problems += more
        if problems:
            msg = f"The settings in {str(source)!r} do not fit its weights: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give the published file whole.")
        masked = tensors.get("classifier_head.weight")
        return cls(
            heads=int(heads),
            n_ids=sizes["n_rows"] - _SPARE_ROWS if masked is None else len(masked),
            masked=masked is not None,
            context=tuple(k for k in CONTEXT if settings.get(k, True)),
            extractor="extractor.weight" in tensors,
            **(sizes | fine),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self) | {"context": list(self.context), "layers": list(self.layers)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        context, layers = tuple(values["context"]), tuple(values["layers"])
        return cls(**{**values, "context": context, "layers": layers})


def _sizes(tensors: Mapping[str, torch.Tensor], source: Path) -> dict[str, int]:
    first = "encoder.layers.0.linear1.weight"
    names = ("embeddings.weight", "positional_embedding.weight", first)
    found = take(tensors, names, source=source)
    flat = [name for name, tensor in zip(names, found) if tensor.dim() != 2]
    if flat:
        msg = f"{flat[0]!r} in {str(source)!r} is no matrix. Give the published file whole."
        raise StateMismatchError(msg)
    blocks = {m[1] for m in (re.match(r"encoder\.layers\.(\d+)\.", k) for k in tensors) if m}
    (n_rows, width), n_places, hidden = found[0].shape, len(found[1]), len(found[2])
    return {
        "n_rows": n_rows,
        "width": width,
        "hidden": hidden,
        "n_places": n_places,
        "depth": len(blocks),
    }


def _head(
    settings: Mapping[str, Any], head: torch.Tensor, sizes: Mapping[str, int]
) -> tuple[dict[str, Any], list[str]]:
    """Read what a fine-tuned head predicts and from what; return it and the problems."""
    depth, n_out = sizes["depth"], len(head)
    task = settings.get("supervised_task") or ""
    layers = settings.get("extract_layers") or [depth - 1]
    combine = settings.get("function_layers") or "mean"
    # The binary head gives one number a type, and no rule that makes a class of it.
    classed = task in ("niche_classification", "niche_multiclass_classification")
    classes = settings.get("n_classes", n_out) if classed else 0
    problems = []
    if task and task not in TASKS:
        problems.append(f"supervised_task={task!r}, expected one of {', '.join(TASKS)}")
    if not (isinstance(layers, list) and all(_is_place(i, depth) for i in layers)):
        problems.append(f"extract_layers={layers!r}, expected blocks from 0 to {depth - 1}")
        layers = []
    if combine not in ("mean", "sum", "concat"):
        problems.append(f"function_layers={combine!r}, expected 'mean', 'sum' or 'concat'")
    if classes and (not _is_size(classes) or n_out % classes):
        problems.append(f"n_classes={classes!r}, the head gives {n_out} numbers")
    return {
        "task": task,
        "n_out": n_out,
        "n_classes": classes,
        "layers": tuple(sorted(set(layers))),
        "combine": combine,
        "softmax": bool(settings.get("regress_distribution")),
        "with_context": settings.get("without_context") is False,
        "cls": settings.get("pool") == "cls",
    }, problems


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_place(value: object, depth: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < depth
