"""The settings of a published scMulan: ``model_args`` in its file, and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["BINS", "IDS", "ScmulanConfig"]

IDS, BINS = "transformer.wte.weight", "transformer.wee.weight"
_HIDDEN = "transformer.h.0.mlp.c_fc.weight"
_TOLD = {
    "vocab_size": "n_ids",
    "n_embd": "width",
    "n_layer": "depth",
    "expression_level": "n_bins",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScmulanConfig:
    """Hold sizes.

    Parameters
    ----------
    n_ids, width, depth, heads, hidden
        Vocabulary, model width, blocks, attention heads, width of the feed-forward.
    n_bins
        Bins of values that are not zero.
    bias
        Whether maps and norms have a bias.
    """

    n_ids: int
    width: int
    depth: int
    heads: int
    hidden: int
    n_bins: int = 10
    bias: bool = True

    @classmethod
    def from_published(
        cls,
        args: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        *,
        heads: int | None,
        source: Path,
    ) -> Self:
        """Read sizes from the tensors, and compare ``model_args`` with them."""
        wanted = (IDS, BINS, _HIDDEN)
        found = dict(zip(wanted, take(tensors, wanted, source=source)))
        problems = [f"{k} is {tuple(t.shape)}" for k, t in found.items() if t.dim() != 2]
        told = args.get("n_head") if heads is None else heads
        if not isinstance(told, int) or isinstance(told, bool) or not 0 < told < 10_000:
            problems.append(f"n_head={told!r}, expected a whole number (give it as `heads`)")
        if args.get("ele", 1) != 1:
            problems.append(f"ele={args.get('ele')!r}, expected 1")
        if not problems:
            assert isinstance(told, int)
            sizes = _sizes(found, tensors)
            problems = [
                f"{theirs}={args[theirs]!r}, the weights have {sizes[ours]}"
                for theirs, ours in _TOLD.items()
                if args.get(theirs, sizes[ours]) != sizes[ours]
            ]
            if sizes["width"] % told or sizes["n_bins"] < 3:
                problems.append(f"width {sizes['width']} with {told} heads, {sizes['n_bins']} bins")
        if problems:
            msg = f"The settings in {str(source)!r} do not fit: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give the published file whole.")
        return cls(heads=int(str(told)), bias="transformer.ln_f.bias" in tensors, **sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**values)


def _sizes(
    found: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> dict[str, int]:
    n_ids, width = found[IDS].shape
    blocks = {k.split(".")[2] for k in tensors if k.startswith("transformer.h.")}
    return {
        "n_ids": n_ids,
        "width": width,
        "depth": len(blocks),
        "hidden": len(found[_HIDDEN]),
        "n_bins": len(found[BINS]) - 1,
    }
