"""The sizes of a published scBERT, all of them read from the tensors: there is no settings file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["ScbertConfig"]

_LAYERS = "performer.net.layers."
_TOKENS, _GENES = "token_emb.weight", "pos_emb.emb.weight"
_QUERY = f"{_LAYERS}0.0.fn.to_q.weight"
_FEATURES = f"{_LAYERS}0.0.fn.fast_attention.projection_matrix"
_HIDDEN = f"{_LAYERS}0.1.fn.fn.w1.weight"
_LABELS = "to_out.fc3.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScbertConfig:
    """Hold sizes, and which head the weights have.

    Parameters
    ----------
    n_ids
        Places of the sequence: the genes and one more.
    n_values
        Rows of the table of bins; the last is mask and padding.
    width, depth, heads, head_width, hidden, n_features
        Model width, blocks, heads and the width of one, feed-forward, random features.
    double_places
        Whether the gene table is in double precision, as it is when gene2vec's file was.
    masked
        Whether there is the pretraining head.
    n_labels, label_widths
        Classes of the fine-tuned head, 0 for none, and the widths of its two hidden layers.
    """

    n_ids: int
    n_values: int
    width: int
    depth: int
    heads: int
    head_width: int
    hidden: int
    n_features: int
    double_places: bool = False
    masked: bool = True
    n_labels: int = 0
    label_widths: tuple[int, int] = (512, 128)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], *, source: Path) -> Self:
        """Read all sizes; a tensor of another form is told."""
        wanted = (_TOKENS, _GENES, _QUERY, _FEATURES, _HIDDEN)
        found = dict(zip(wanted, take(tensors, wanted, source=source)))
        problems = [f"{k} is {tuple(v.shape)}" for k, v in found.items() if v.dim() != 2]
        problems = problems or _odd_sizes(found)
        if problems:
            msg = f"The weights in {str(source)!r} are of no scBERT: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give the published file whole.")
        inner, head_width = len(found[_QUERY]), found[_FEATURES].shape[1]
        return cls(
            n_ids=len(found[_GENES]),
            n_values=len(found[_TOKENS]),
            width=found[_TOKENS].shape[1],
            depth=len({k.split(".")[3] for k in tensors if k.startswith(_LAYERS)}),
            heads=inner // head_width,
            head_width=head_width,
            hidden=len(found[_HIDDEN]),
            n_features=len(found[_FEATURES]),
            double_places=found[_GENES].dtype == torch.float64,
            **_head(tensors),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "label_widths": list(self.label_widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        first, second = values["label_widths"]
        return cls(**{**values, "label_widths": (first, second)})


def _odd_sizes(found: Mapping[str, torch.Tensor]) -> list[str]:
    inner, head_width = len(found[_QUERY]), found[_FEATURES].shape[1]
    odd = []
    if len(found[_TOKENS]) < 5:
        odd.append(f"{len(found[_TOKENS])} bins, expected at least 5, mask among them")
    if not inner or not head_width or inner % head_width:
        odd.append(f"queries of {inner} do not divide into heads of {head_width}")
    return odd


def _head(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Say which head the weights have."""
    labels = tensors.get(_LABELS)
    if labels is None:
        return {"masked": "to_out.weight" in tensors}
    widths = [len(t) for n in (1, 2) if (t := tensors.get(f"to_out.fc{n}.weight")) is not None]
    widths = widths if len(widths) == 2 else [512, 128]
    return {"masked": False, "n_labels": len(labels), "label_widths": (widths[0], widths[1])}
