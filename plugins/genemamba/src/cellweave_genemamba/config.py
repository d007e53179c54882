"""The sizes of a published GeneMamba: the tensors say them, its settings must agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["Fuse", "GenemambaConfig"]

Fuse = Literal["mean", "sum", "concat", "gate"]
_FUSES = ("mean", "sum", "concat", "gate")
_SAID = {
    "d_model": "width",
    "hidden_size": "width",
    "mamba_layer": "depth",
    "num_hidden_layers": "depth",
    "vocab_size": "n_ids",
}
_STEM = "mamba_mixer.layers.0.mamba."
_PARTS = ("A_log", "norm.weight", "conv1d.weight", "in_proj.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenemambaConfig:
    """Hold the sizes of the network.

    Parameters
    ----------
    n_ids, width, depth
        Vocabulary, model width, blocks.
    heads, head_width, state, conv
        Of each state space: heads and their width, features of the state, length of the
        convolution.
    fuse
        How the two readings of a block become one.
    max_length
        Most tokens of a cell.
    head
        Whether there are scores of the next gene.
    labels, label_width, label_depth
        Classes of a fine-tuned classifier (0 for none), width of its hidden layers, all layers.
    """

    n_ids: int
    width: int
    depth: int
    heads: int
    head_width: int = 64
    state: int = 64
    conv: int = 4
    fuse: Fuse = "mean"
    max_length: int = 2048
    head: bool = True
    labels: int = 0
    label_width: int = 0
    label_depth: int = 0

    @classmethod
    def from_published(
        cls,
        settings: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        *,
        source: Path,
        fuse: str | None = None,
    ) -> Self:
        """Take sizes from the tensors and compare them with the settings; every problem is told.

        Parameters
        ----------
        settings
            ``config.json``; may be empty.
        tensors, source
            Weights by their plain names, and where they are from.
        fuse
            How readings are fused, where no settings say it.
        """
        sizes = _sizes(tensors, source)
        said = settings.get("mode", settings.get("mamba_mode"))
        chosen = fuse or said or (None if "mamba_mixer.aggr.weight" in tensors else "mean")
        length = settings.get("max_position_embeddings", settings.get("seq_len")) or 2048
        problems = [
            f"{key}={settings[key]!r}, the weights have {sizes[ours]}"
            for key, ours in _SAID.items()
            if settings.get(key) is not None and settings[key] != sizes[ours]
        ]
        if chosen is None:
            problems.append("nothing says how readings are fused; give mode='gate' or 'concat'")
        elif chosen not in _FUSES:
            problems.append(f"mode={chosen!r}, expected one of {', '.join(_FUSES)}")
        elif (chosen in ("concat", "gate")) != ("mamba_mixer.aggr.weight" in tensors):
            problems.append(f"mode={chosen!r} does not go with the weights' mamba_mixer.aggr")
        if not isinstance(length, int) or isinstance(length, bool) or length < 2:
            problems.append(f"max_position_embeddings={length!r}, expected a whole number")
        if problems:
            msg = f"The settings in {str(source)!r} do not fit its weights: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give config.json as published beside the weights.")
        return cls(
            **sizes,
            fuse=chosen,  # type: ignore[arg-type]
            max_length=length,
            head="lm_head.weight" in tensors,
            **_classifier(tensors),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**values)


def _sizes(tensors: Mapping[str, torch.Tensor], source: Path) -> dict[str, int]:
    names = ["embeddings.weight", *(_STEM + part for part in _PARTS)]
    table, decay, norm, conv, into = take(tensors, names, source=source)
    blocks = {m[1] for m in (re.match(r"mamba_mixer\.layers\.(\d+)\.", k) for k in tensors) if m}
    heads, inner = decay.numel(), norm.numel()
    state = (len(conv) - inner) // 2 if conv.dim() == 3 else 0
    width = table.shape[1] if table.dim() == 2 else 0
    fits = into.dim() == 2 and tuple(into.shape) == (2 * inner + 2 * state + heads, width)
    if not (heads and state > 0 and fits and inner % heads == 0 and inner % width == 0):
        shapes = {name: tuple(tensors[name].shape) for name in names}
        msg = f"The shapes in {str(source)!r} are not those of Mamba-2: {shapes!r}. "
        raise StateMismatchError(msg + "Give the published file whole.")
    return {
        "n_ids": len(table),
        "width": width,
        "depth": len(blocks),
        "heads": heads,
        "head_width": inner // heads,
        "state": state,
        "conv": conv.shape[-1],
    }


def _classifier(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    found = {
        int(k.split(".")[2]): t
        for k, t in tensors.items()
        if re.fullmatch(r"classifier\.layers\.\d+\.weight", k) and t.dim() == 2
    }
    if not found:
        return {}
    last = max(found)
    return {
        "labels": len(found[last]),
        "label_width": found[last].shape[1],
        "label_depth": len(found),
    }
