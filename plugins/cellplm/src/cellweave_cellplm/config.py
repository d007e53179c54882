"""The settings of a published CellPLM: its JSON of constructor arguments, and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["CellplmConfig"]

_GENES = "embedder.feat_enc.emb"
_HIDDEN = "encoder.layers.0._ff_block.0.weight"
_CLUSTERS = "latent.layers.1.inference.inference_qyx.0.logits.weight"
_MIDDLE = "latent.layers.1.inference.inference_qzyx.0.weight"
_MEAN = "latent.layers.1.inference.inference_qzyx.2.mu.weight"
_FIXED = {"enc_mod": "flowformer", "latent_mod": "gmvae", "norm": "groupnorm"}
_SIZES = ("enc_hid", "enc_layers", "num_clusters", "post_latent_dim")
_HEADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CellplmConfig:
    """Hold sizes.

    Parameters
    ----------
    n_ids
        Genes.
    width, depth, heads, hidden
        Model width, blocks, attention heads, width of the feed-forward.
    clusters, latent_width, latent_hidden
        Of the mixture latent: components, width, and width of its hidden layer.
    """

    n_ids: int
    width: int
    depth: int
    heads: int
    hidden: int
    clusters: int
    latent_width: int
    latent_hidden: int

    @property
    def cell_width(self) -> int:
        """Give the width of a cell's state."""
        return self.latent_width

    @classmethod
    def from_published(
        cls, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, source: Path
    ) -> Self:
        """Read the JSON and compare it with the tensors; every problem is told."""
        problems = [
            f"{key}={values.get(key)!r}, expected {wanted!r}"
            for key, wanted in _FIXED.items()
            if values.get(key) != wanted
        ]
        heads = values.get("enc_head", _HEADS)
        sizes = {key: values.get(key) for key in _SIZES} | {"enc_head": heads}
        problems += [
            f"{key}={value!r}, expected a positive whole number"
            for key, value in sizes.items()
            if not _is_size(value)
        ]
        wanted = (_GENES, _HIDDEN, _CLUSTERS, _MIDDLE, _MEAN)
        found = dict(zip(wanted, take(tensors, wanted, source=source)))
        problems += [f"{k} is {tuple(t.shape)}" for k, t in found.items() if t.dim() != 2]
        problems = problems or _disagreements(values, heads, found, tensors)
        if problems:
            msg = f"The settings in {str(source)!r} do not fit: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give the JSON that was published with these weights.")
        return cls(
            n_ids=len(found[_GENES]),
            width=values["enc_hid"],
            depth=values["enc_layers"],
            heads=heads,
            hidden=len(found[_HIDDEN]),
            clusters=values["num_clusters"],
            latent_width=values["post_latent_dim"],
            latent_hidden=len(found[_MIDDLE]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**values)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10_000_000


def _disagreements(
    values: Mapping[str, Any],
    heads: int,
    found: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
) -> list[str]:
    """Compare sizes before a network of that size is made."""
    blocks = {k.split(".")[2] for k in tensors if k.startswith("encoder.layers.")}
    sizes = {
        "enc_hid": found[_GENES].shape[1],
        "enc_layers": len(blocks),
        "num_clusters": len(found[_CLUSTERS]),
        "post_latent_dim": len(found[_MEAN]),
    }
    odd = [f"{k}={values[k]!r}, the weights have {v}" for k, v in sizes.items() if values[k] != v]
    if values["enc_hid"] % heads or values["enc_hid"] % 4:
        odd.append(f"enc_hid={values['enc_hid']!r} does not divide by {heads} heads and 4 groups")
    return odd
