"""How long work reports where it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Progress", "ProgressCallback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One report from a running component: step ``step`` of ``total`` in ``stage``."""

    stage: str
    step: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


ProgressCallback = Callable[[Progress], None]
