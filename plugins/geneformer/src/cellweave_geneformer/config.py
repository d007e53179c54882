"""The settings that stand in a published ``config.json``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from cellweave.errors import StateMismatchError

__all__ = ["GeneformerConfig", "Head"]

Head = Literal["none", "mlm", "cell", "gene"]
_SIZES = {
    "vocab_size": "n_ids",
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "intermediate_size": "hidden",
    "max_position_embeddings": "n_places",
    "type_vocab_size": "n_types",
}
_HEADS: Mapping[str, Head] = {
    "BertForMaskedLM": "mlm",
    "BertForSequenceClassification": "cell",
    "BertForTokenClassification": "gene",
    "BertModel": "none",
}
_LARGEST = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneformerConfig:
    """Hold the sizes of the network.

    Parameters
    ----------
    n_ids, width, depth, heads, hidden, n_places, n_types
        Vocabulary, model width, blocks, heads, width of the feed-forward, longest cell, types.
    activation, eps
        Activation and epsilon of the layer norms.
    head
        What stands on top: ``mlm``, a classifier of ``cell`` or ``gene``, or ``none``.
    labels
        Names of the classifier's classes.
    """

    n_ids: int
    width: int
    depth: int
    heads: int
    hidden: int
    n_places: int
    n_types: int = 2
    activation: str = "relu"
    eps: float = 1e-12
    head: Head = "mlm"
    labels: tuple[str, ...] = ()

    @classmethod
    def from_published(cls, values: Mapping[str, Any], *, source: Path) -> Self:
        """Read the authors' ``config.json``; every problem is told."""
        problems = [
            f"{key}={values.get(key)!r}, expected a positive whole number"
            for key in _SIZES
            if not _is_size(values.get(key))
        ]
        architectures = values.get("architectures") or ["BertModel"]
        head = _HEADS.get(architectures[0]) if isinstance(architectures, list) else None
        if values.get("model_type") != "bert" or head is None:
            found = (values.get("model_type"), architectures)
            problems.append(f"model_type and architectures {found!r}, expected one of BERT's")
        if values.get("position_embedding_type", "absolute") != "absolute":
            problems.append("position_embedding_type is not 'absolute'")
        if values.get("hidden_act", "relu") not in ("relu", "gelu", "silu"):
            problems.append(f"hidden_act={values.get('hidden_act')!r}, expected 'relu'")
        if not problems and values["hidden_size"] % values["num_attention_heads"]:
            problems.append("hidden_size does not divide by num_attention_heads")
        if problems:
            msg = f"The settings in {str(source)!r} are not Geneformer's: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give config.json as published beside the weights.")
        assert head is not None
        return cls(
            **{ours: int(values[key]) for key, ours in _SIZES.items()},
            activation=str(values.get("hidden_act", "relu")),
            eps=float(values.get("layer_norm_eps", 1e-12)),
            head=head,
            labels=_labels(values) if head in ("cell", "gene") else (),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self) | {"labels": list(self.labels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**{**values, "labels": tuple(values.get("labels", ()))})


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST


def _labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    named = values.get("id2label")
    if isinstance(named, dict) and all(str(i) in named for i in range(len(named))):
        return tuple(str(named[str(i)]) for i in range(len(named)))
    count = values.get("num_labels", 2)
    return tuple(f"LABEL_{i}" for i in range(count if _is_size(count) else 2))
