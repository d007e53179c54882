"""The sizes of a saved TOSICA project, read from its tensors, and the names beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["TosicaConfig"]

_CLS, _MASK, _WEIGHT = "cls_token", "feature_embed.fe.mask", "feature_embed.fe.weight"
_HIDDEN, _HEAD = "blocks.0.mlp.fc1.weight", "head.weight"
_DIMENSIONS = {_CLS: 3, _MASK: 2, _WEIGHT: 2, _HIDDEN: 2, _HEAD: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class TosicaConfig:
    """Hold sizes and names.

    Parameters
    ----------
    n_ids
        Genes.
    width, depth, heads, hidden
        Model width, blocks, attention heads, width of the feed-forward.
    pathways
        Their names, in the order of tokens.
    labels
        Names of the classes; empty where there is no classifier.
    layout
        Which outputs of the masked layer a pathway reads: ``"aligned"`` its own, ``"upstream"``
        those that the published code reads, of many pathways.
    """

    n_ids: int
    width: int
    depth: int
    heads: int
    hidden: int
    pathways: tuple[str, ...]
    labels: tuple[str, ...] = ()
    layout: Literal["aligned", "upstream"] = "upstream"

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, torch.Tensor],
        *,
        heads: int,
        pathways: Sequence[str],
        labels: Sequence[str],
        source: Path,
    ) -> Self:
        """Read all sizes, and compare them with the names; every problem is told."""
        found = dict(zip(_DIMENSIONS, take(tensors, _DIMENSIONS, source=source)))
        problems = [
            f"{k} is {tuple(found[k].shape)}, expected {n} dimensions"
            for k, n in _DIMENSIONS.items()
            if found[k].dim() != n
        ]
        problems = problems or _disagreements(found, heads, pathways, labels)
        if problems:
            msg = f"The weights in {str(source)!r} do not fit: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give one project whole, as TOSICA saved it.")
        return cls(
            n_ids=found[_MASK].shape[1],
            width=found[_CLS].shape[2],
            depth=len({k.split(".")[1] for k in tensors if k.startswith("blocks.")}),
            heads=heads,
            hidden=len(found[_HIDDEN]),
            pathways=tuple(pathways),
            labels=tuple(labels),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "pathways": list(self.pathways), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        names = {k: tuple(values[k]) for k in ("pathways", "labels")}
        return cls(**{**values, **names})


def _disagreements(
    found: Mapping[str, torch.Tensor], heads: int, pathways: Sequence[str], labels: Sequence[str]
) -> list[str]:
    width, rows, odd = found[_CLS].shape[2], len(found[_MASK]), []
    if found[_MASK].shape != found[_WEIGHT].shape:
        odd.append(f"mask {tuple(found[_MASK].shape)}, weights {tuple(found[_WEIGHT].shape)}")
    if not width or rows != width * len(pathways):
        odd.append(f"{rows} rows of width {width} for {len(pathways)} names in pathway.csv")
    if width % max(heads, 1) or heads < 1:
        odd.append(f"width {width} does not divide by {heads} heads")
    if len(labels) != len(found[_HEAD]):
        odd.append(f"{len(found[_HEAD])} classes for {len(labels)} names in label_dictionary.csv")
    return odd
