"""Several objectives at once, each with a weight.

    total = Σ_k weight_k · Σ terms of objective k

Corruptions are applied one after another; those that change the cells (two views, separate
modalities) come first, the others in the order given. Two that would write one target clash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["Composed", "WeightedObjective"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedObjective:
    """An objective and what its terms count in the total."""

    objective: Any
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """Apply several objectives to one batch.

    Parameters
    ----------
    parts
        Name to objective and weight.
    """

    parts: Mapping[str, WeightedObjective]

    def __post_init__(self) -> None:
        """Refuse nothing at all, and more than one change of the cells."""
        changing = [n for n, p in self.parts.items() if _changes_cells(p.objective)]
        if not self.parts:
            msg = "There is no objective. Name at least one, e.g. nn.masked_value."
            raise ConfigError(msg)
        if len(changing) > 1:
            msg = f"{' and '.join(changing)} each change the cells of a batch. Use one of them."
            raise ConfigError(msg)

    @property
    def extra_ids(self) -> tuple[str, ...]:
        """List roles of special tokens that the objectives add to the vocabulary."""
        found = dict.fromkeys(
            name for part in self.parts.values() for name in _extra_ids(part.objective)
        )
        return tuple(found)

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build every head once; objectives that name the same head share it."""
        made: dict[str, nn.Module] = {}
        for part in self.parts.values():
            for name, head in part.objective.heads(shape).items():
                made.setdefault(name, head)
        return made

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Apply all corruptions."""
        targets: dict[str, torch.Tensor] = {}
        for name, part in self._in_order():
            corrupted = part.objective.corrupt(batch, generator)
            batch = corrupted.batch
            if clash := sorted(targets.keys() & corrupted.targets.keys()):
                msg = (
                    f"Objective {name!r} hides {', '.join(clash)}, which another hides already. "
                    "Set its fraction to 0 or leave it out."
                )
                raise ConfigError(msg)
            targets |= corrupted.targets
        return Corrupted(batch=batch, targets=targets)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return all terms, weighted."""
        terms: dict[str, torch.Tensor] = {}
        for _, part in self._in_order():
            for name, term in part.objective.loss(outputs, corrupted).items():
                terms[name] = part.weight * term
        return terms

    def second_passes(
        self, outputs: EncoderOutput, corrupted: Corrupted
    ) -> Iterator[tuple[WeightedObjective, Corrupted]]:
        """Yield what objectives want encoded once more."""
        for part in self.parts.values():
            again = getattr(part.objective, "again", None)
            wanted = again(outputs, corrupted) if again else None
            if wanted is not None:
                yield part, wanted

    def _in_order(self) -> list[tuple[str, WeightedObjective]]:
        return sorted(self.parts.items(), key=lambda item: not _changes_cells(item[1].objective))


def _changes_cells(objective: Any) -> bool:
    return bool(getattr(objective, "changes_cells", False))


def _extra_ids(objective: Any) -> tuple[str, ...]:
    return tuple(getattr(objective, "extra_ids", ()))
