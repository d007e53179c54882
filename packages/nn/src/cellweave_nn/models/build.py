"""Build parts by registry name; class paths never come from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from cellweave.config.arguments import coerce_arguments
from cellweave.plugins import get_plugin_manager
from cellweave.records import ComponentKind, ComponentState
from cellweave_nn.checkpoints.family import FamilyModel
from cellweave_nn.encoders.family import FamilyEncoder
from cellweave_nn.objectives.composed import Composed, WeightedObjective
from cellweave_nn.training.randomness import torch_seeded
from cellweave_nn.training.settings import ObjectiveConfig

__all__ = ["build_encoder", "build_objectives", "build_tokenizer", "tokenizer_from_state"]


def build_encoder(name: str, parameters: Mapping[str, Any], *, seed: int = 0) -> nn.Module:
    """Build an encoder, or the network of a published family, by name.

    Its first weights depend on ``seed`` alone.
    """
    with torch_seeded(seed, "weights", name):
        family = _family(name)
        encoder: nn.Module = (
            _create(ComponentKind.ENCODER, name, parameters)
            if family is None
            else FamilyEncoder.from_parameters(family, parameters)
        )
    return encoder


def build_objectives(configs: Mapping[str, ObjectiveConfig]) -> Composed:
    """Build objectives with their weights."""
    parts = {
        label: WeightedObjective(
            objective=_create(ComponentKind.OBJECTIVE, config.name, config.parameters),
            weight=config.weight,
        )
        for label, config in configs.items()
    }
    return Composed(parts=parts)


def build_tokenizer(name: str, parameters: Mapping[str, Any]) -> Any:
    """Build a tokenizer that is not fitted yet."""
    return _create(ComponentKind.TOKENIZER, name, parameters)


def tokenizer_from_state(state: ComponentState) -> Any:
    """Rebuild a fitted tokenizer; that of a published family goes by the family's name."""
    if (family := _family(state.component)) is not None:
        return family.tokenizer_type.from_state(state)
    registry = get_plugin_manager().registry(ComponentKind.TOKENIZER)
    return registry[state.component].load().from_state(state)


def _family(name: str) -> type[FamilyModel] | None:
    registry = get_plugin_manager().registry(ComponentKind.MODEL)
    target = registry[name].load() if name in registry else None
    return target if isinstance(target, type) and issubclass(target, FamilyModel) else None


def _create(kind: ComponentKind, name: str, parameters: Mapping[str, Any]) -> Any:
    target = get_plugin_manager().registry(kind)[name].load()
    return target(**coerce_arguments(target, parameters, name=name))
