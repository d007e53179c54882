"""The settings of bindSC, checked together: every wrong one is named at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellweave.weaving import require_settings

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Hold the arguments of :class:`~cellweave_bindsc.integrator.BindSC`."""

    alpha: float | None
    lam: float | None
    n_components: int
    n_reduced: int
    max_iterations: int
    tolerance: float
    use_rep: str | Mapping[str, str] | None
    batch_key: str | None
    seed: int

    def __post_init__(self) -> None:
        """Refuse what cannot be, all of it in one message."""
        rules = [
            (
                value is None or 0 <= value <= 1,
                f"{name}={value!r}: give 0 to 1, or nothing for the rule.",
            )
            for name, value in (("alpha", self.alpha), ("lam", self.lam))
        ]
        rules += [
            (
                self.n_components == 0 or self.n_components >= 2,
                f"n_components={self.n_components!r}: give 2 or more, or 0 for the rule.",
            ),
            (self.n_reduced >= 5, f"n_reduced={self.n_reduced!r}: give at least 5."),
            (self.max_iterations >= 1, f"max_iterations={self.max_iterations!r}: give at least 1."),
            (self.tolerance > 0, f"tolerance={self.tolerance!r}: give a positive number."),
        ]
        require_settings("bindSC", rules)
