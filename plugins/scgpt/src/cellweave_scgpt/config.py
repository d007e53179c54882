"""The settings of a published scGPT: ``args.json``, and what the tensors say of the heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch

from cellweave.errors import StateMismatchError

__all__ = ["ScgptConfig"]

_SIZES = {"embsize": "width", "nlayers": "depth", "nheads": "heads", "d_hid": "hidden"}
_LARGEST = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScgptConfig:
    """Hold sizes, the way of values, and which heads the weights have.

    Parameters
    ----------
    n_ids, width, depth, heads, hidden
        Vocabulary, model width, blocks, attention heads, width of the feed-forward.
    values
        ``continuous`` (a small network), ``category`` (a row a bin) or ``scaling`` (a factor).
    n_values
        Rows of the category table.
    n_bins, max_length, pad_value, pad_token
        Of the tokenizer.
    norm
        Norm of the tokens before the blocks: ``none``, ``batch`` or ``domain``.
    n_domains
        Domains of ``domain``.
    flag
        Whether there are the two rows that mark tokens to generate.
    expression, zero
        Whether there is the head of values, and its twin for zero or not.
    conditioned, conditioned_zero
        Whether there is the head of values from the cell state, and its twin.
    n_labels, label_depth
        Classes, and hidden layers of the classifier; 0 for none.
    """

    n_ids: int
    width: int
    depth: int
    heads: int
    hidden: int
    values: Literal["continuous", "category", "scaling"] = "continuous"
    n_values: int = 0
    n_bins: int = 51
    max_length: int = 1200
    pad_value: float = -2.0
    pad_token: str = "<pad>"
    norm: Literal["none", "batch", "domain"] = "none"
    n_domains: int = 0
    flag: bool = False
    expression: bool = False
    zero: bool = False
    conditioned: bool = False
    conditioned_zero: bool = False
    n_labels: int = 0
    label_depth: int = 0

    @classmethod
    def from_published(
        cls, args: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, source: Path
    ) -> Self:
        """Read ``args.json`` and compare it with the tensors; every problem is told."""
        problems = [
            f"{key}={args.get(key)!r}, expected a positive whole number"
            for key in _SIZES
            if not _is_size(args.get(key))
        ]
        if not problems and args["embsize"] % args["nheads"]:
            problems.append("embsize does not divide by nheads")
        n_bins, pad = args.get("n_bins") or 51, args.get("pad_value", -2)
        length = args.get("max_seq_len") or 1200
        if not (_is_size(n_bins) and _is_size(length) and n_bins > 2 and length > 1):
            problems.append(f"n_bins={n_bins!r}, max_seq_len={length!r}, expected whole numbers")
        if not isinstance(pad, int | float) or not isinstance(args.get("pad_token", ""), str):
            problems.append(f"pad_value={pad!r} or pad_token, expected a number and a name")
        if not problems:
            problems = _disagreements(args, tensors)
        if problems:
            msg = f"The settings in {str(source)!r} do not fit: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give args.json as published beside these weights.")
        return cls(
            n_ids=len(tensors["encoder.embedding.weight"]),
            **{ours: args[key] for key, ours in _SIZES.items()},
            n_bins=n_bins,
            max_length=length,
            pad_value=float(pad),
            pad_token=args.get("pad_token", "<pad>"),
            **_parts(tensors),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**values)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST


def _disagreements(args: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Compare sizes before a network of that size is made."""
    layer = "transformer_encoder.layers.0.linear1.weight"
    missing = [k for k in ("encoder.embedding.weight", layer) if k not in tensors]
    if missing:
        return [f"the weights have no {', '.join(missing)}"]
    found = {
        "embsize": _columns(tensors["encoder.embedding.weight"]),
        "d_hid": len(tensors[layer]),
        "nlayers": len({k.split(".")[2] for k in tensors if k.startswith("transformer_encoder.")}),
    }
    return [f"{k}={args[k]!r}, the weights have {v}" for k, v in found.items() if args[k] != v]


def _columns(tensor: torch.Tensor) -> int:
    return tensor.shape[1] if tensor.dim() == 2 else -1


def _parts(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Say which optional parts the weights have."""
    labels = tensors.get("cls_decoder.out_layer.weight")
    values = tensors.get("value_encoder.embedding.weight")
    continuous = "value_encoder.linear1.weight" in tensors
    domains = {k.split(".")[2] for k in tensors if k.startswith("dsbn.bns.")}
    norm = "batch" if "bn.running_mean" in tensors else "none"
    return {
        "values": "continuous" if continuous else "scaling" if values is None else "category",
        "n_values": 0 if values is None else len(values),
        "norm": "domain" if domains else norm,
        "n_domains": len(domains),
        "flag": "flag_encoder.weight" in tensors,
        "expression": "decoder.fc.0.weight" in tensors,
        "zero": "decoder.zero_logit.0.weight" in tensors,
        "conditioned": "mvc_decoder.W.weight" in tensors,
        "conditioned_zero": "mvc_decoder.W_zero_logit.weight" in tensors,
        "n_labels": 0 if labels is None else len(labels),
        "label_depth": sum(
            k.startswith("cls_decoder._decoder.") and t.dim() == 2 for k, t in tensors.items()
        ),
    }
