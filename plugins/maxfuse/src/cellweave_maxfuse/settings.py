"""The settings of MaxFuse, checked together: every wrong one is named at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellweave.weaving import require_settings

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Hold the arguments of :class:`~cellweave_maxfuse.integrator.MaxFuse`."""

    n_components: int
    linked_components: int
    linked_weight: float
    n_neighbors: int
    smoothing: float
    smoothing_steps: int
    rounds: int
    anchor: float
    epsilon: float
    rho: float
    ridge: float
    power: float
    screen: float
    batch_size: int
    metacell_size: int
    use_rep: str | Mapping[str, str] | None
    batch_key: str | None
    spatial_neighbors: int
    spatial_key: str
    seed: int

    def __post_init__(self) -> None:
        """Refuse what cannot be, all of it in one message."""
        require_settings("MaxFuse", self._rules())

    def _rules(self) -> list[tuple[bool, str]]:
        at_least = {
            "n_components": 2, "linked_components": 2, "n_neighbors": 2, "smoothing_steps": 0,
            "rounds": 1, "batch_size": 50, "metacell_size": 0, "spatial_neighbors": 0,
        }  # fmt: skip
        shares = ("smoothing", "anchor", "screen")
        positive = ("epsilon", "rho", "ridge")
        rules = [
            (getattr(self, n) >= low, f"{n}={getattr(self, n)!r}: give at least {low}.")
            for n, low in at_least.items()
        ]
        rules += [
            (0 <= getattr(self, n) <= 1, f"{n}={getattr(self, n)!r}: give 0 to 1.") for n in shares
        ]
        rules += [
            (getattr(self, n) > 0, f"{n}={getattr(self, n)!r}: give a positive number.")
            for n in positive
        ]
        rules += [
            (getattr(self, n) >= 0, f"{n}={getattr(self, n)!r}: give 0 or more.")
            for n in ("power", "linked_weight")
        ]
        return [*rules, (self.screen < 1, "screen=1 would leave no pivot: give less.")]
