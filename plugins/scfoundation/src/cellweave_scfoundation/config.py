"""The sizes of a published scFoundation: the tensors say them, its settings must agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["ScfoundationConfig", "flattened"]

_BLOCK = "encoder.transformer_encoder.0."
_PERFORMER = "decoder.performer.net.layers.0."
_FAVOR = f"{_PERFORMER}0.fn.fast_attention.projection_matrix"
_SOURCES = {
    "n_places": ("pos_emb.weight", 0),
    "width": ("pos_emb.weight", 1),
    "n_bins": ("token_emb.emb.weight", 0),
    "hidden": (f"{_BLOCK}linear1.weight", 0),
    "decoder_width": ("decoder_embed.weight", 0),
    "decoder_inner": (f"{_PERFORMER}0.fn.to_q.weight", 0),
    "decoder_hidden": (f"{_PERFORMER}1.fn.fn.w1.weight", 0),
    "decoder_features": (_FAVOR, 0),
    "decoder_head_width": (_FAVOR, 1),
}
# T, S, and the row that padding points to.
_NOT_GENES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ScfoundationConfig:
    """Hold the sizes of the network and which of the published models it is.

    Parameters
    ----------
    n_genes, width, depth, heads, hidden
        Genes of the list, and the encoder's width, blocks, attention heads, feed-forward.
    decoder_width, decoder_depth, decoder_heads, decoder_hidden
        The same of the decoder.
    decoder_head_width, decoder_features
        Width of a head of the decoder, and its random features.
    n_bins, bin_alpha
        Bins of the value embedding, and how much of a bin's own score is kept.
    mask_value, pad_value
        Values that mean "hidden" and "nothing".
    part
        ``"cell"``, ``"gene"`` or ``"rde"``; empty when the file holds one model without a name.
    licence
        Of the weights; empty when they are one's own.
    """

    n_genes: int
    width: int
    depth: int
    heads: int
    hidden: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    decoder_hidden: int
    decoder_head_width: int
    decoder_features: int
    n_bins: int = 100
    bin_alpha: float = 1.0
    mask_value: float = 102.0
    pad_value: float = 103.0
    part: str = ""
    licence: str = ""

    @property
    def n_ids(self) -> int:
        """Count genes and the two tokens of depth."""
        return self.n_genes + _NOT_GENES - 1

    @classmethod
    def from_published(
        cls,
        settings: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        *,
        source: Path,
        part: str,
        licence: str,
    ) -> Self:
        """Take sizes from the tensors and compare them with the settings; every problem is told.

        Parameters
        ----------
        settings
            The flat settings of this part (:func:`flattened`); may be empty.
        tensors, source
            The weights and where they are from.
        part, licence
            As above.
        """
        sizes = _sizes(tensors, source)
        head_width = sizes["decoder_head_width"]
        encoder = settings.get("encoder")
        heads = encoder.get("heads") if isinstance(encoder, Mapping) else None
        # Without settings: the heads of encoder and decoder are equally wide, as published.
        heads = sizes["width"] // max(head_width, 1) if heads is None else heads
        alpha = settings.get("bin_alpha", 1.0)
        problems = _disagreements(settings, sizes)
        if not (_is_size(heads) and sizes["width"] % heads == 0):
            problems.append(f"encoder heads={heads!r}, expected a divisor of {sizes['width']}")
        if sizes["decoder_inner"] % max(head_width, 1):
            problems.append(f"{_FAVOR} does not divide the decoder's width")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool):
            problems.append(f"bin_alpha={alpha!r}, expected a number")
        if problems:
            msg = f"The settings in {str(source)!r} do not fit its weights: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give the published file whole.")
        inner, places = sizes.pop("decoder_inner"), sizes.pop("n_places")
        return cls(
            n_genes=places - _NOT_GENES,
            heads=int(heads),
            decoder_heads=inner // head_width,
            bin_alpha=float(alpha),
            mask_value=_number(settings, "mask_token_id", 102.0),
            pad_value=_number(settings, "pad_token_id", 103.0),
            part=part,
            licence=licence,
            **sizes,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**values)


def flattened(config: object) -> dict[str, Any]:
    """Bring the settings of one part into one flat table, as the official loader does."""
    if not isinstance(config, Mapping):
        return {}
    models = config.get("model_config")
    own = models.get(config.get("model")) if isinstance(models, Mapping) else None
    data = config.get("dataset_config")
    inputs = data.get("rnaseq") if isinstance(data, Mapping) else None
    flat: dict[str, Any] = {} if isinstance(models, Mapping) else dict(config)
    for more in (own, inputs):
        flat |= dict(more) if isinstance(more, Mapping) else {}
    return flat


def _sizes(tensors: Mapping[str, torch.Tensor], source: Path) -> dict[str, int]:
    names = [name for name, _ in _SOURCES.values()]
    found = dict(zip(_SOURCES, take(tensors, names, source=source)))
    flat = [name for key, (name, _) in _SOURCES.items() if found[key].dim() != 2]
    if flat:
        msg = f"{flat[0]!r} in {str(source)!r} is no matrix. Give the published file whole."
        raise StateMismatchError(msg)
    sizes = {key: found[key].shape[axis] for key, (_, axis) in _SOURCES.items()}
    sizes["depth"] = _count(r"encoder\.transformer_encoder\.(\d+)\.", tensors)
    sizes["decoder_depth"] = _count(r"decoder\.performer\.net\.layers\.(\d+)\.", tensors)
    return sizes


def _count(pattern: str, names: Mapping[str, Any]) -> int:
    return len({m[1] for m in (re.match(pattern, n) for n in names) if m})


def _disagreements(settings: Mapping[str, Any], sizes: Mapping[str, int]) -> list[str]:
    said = {"bin_num": "n_bins", "seq_len": "n_places"}
    told = [(key, settings.get(key), sizes[ours]) for key, ours in said.items()]
    for stem, prefix in (("encoder", ""), ("decoder", "decoder_")):
        inner = settings.get(stem)
        for key, ours in (("hidden_dim", "width"), ("depth", "depth")):
            value = inner.get(key) if isinstance(inner, Mapping) else None
            told.append((f"{stem} {key}", value, sizes[prefix + ours]))
    # seq_len counts genes, T and S; the table has one more row for padding.
    told = [(k, v, n - 1 if k == "seq_len" else n) for k, v, n in told]
    problems = [f"{k}={v!r}, the weights have {n}" for k, v, n in told if v is not None and v != n]
    if settings.get("model", "mae_autobin") != "mae_autobin":
        problems.append(f"model={settings['model']!r}, expected 'mae_autobin'")
    if sizes["n_places"] <= _NOT_GENES:
        problems.append(f"{sizes['n_places']} places, expected the genes and {_NOT_GENES} more")
    return problems


def _number(settings: Mapping[str, Any], key: str, default: float) -> float:
    value = settings.get(key, default)
    return float(value) if isinstance(value, int | float) else default


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
