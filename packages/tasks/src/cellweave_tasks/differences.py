"""Differences to a baseline with a confidence interval, and the sentence that tells them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["Difference", "difference_sentence", "paired_difference"]

_DRAWS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of paired differences over ``n`` units, and its 95 % bootstrap interval."""

    value: float
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a summary."""
        return {f"difference_{k}": v for k, v in asdict(self).items()}


def paired_difference(ours: np.ndarray, baseline: np.ndarray, *, seed: int = 0) -> Difference:
    """Return the mean of ``ours − baseline`` with a bootstrap over units (three or more)."""
    gaps = np.asarray(ours, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < 3:
        value = float(gaps.mean()) if len(gaps) else 0.0
        return Difference(value=value, low=None, high=None, n=len(gaps))
    rng = np.random.default_rng(seed)
    # Draws as counts of each distinct gap: as many cells as you like, few distinct values.
    values, counts = np.unique(gaps, return_counts=True)
    drawn = rng.multinomial(len(gaps), counts / len(gaps), size=_DRAWS)
    low, high = np.quantile(drawn @ values / len(gaps), [0.025, 0.975])
    return Difference(value=float(gaps.mean()), low=float(low), high=float(high), n=len(gaps))


def difference_sentence(gap: Difference, ours: str, baseline: str, metric: str) -> str:
    """Say whether ``ours`` beats the baseline; a doubt is said as such."""
    size = f"{metric} {gap.value:+.3f}"
    if gap.low is None or gap.high is None:
        size += f", {gap.n} unit{'s' if gap.n != 1 else ''}, too few for an interval"
    else:
        size += f", 95 % interval {gap.low:+.3f} to {gap.high:+.3f} over {gap.n} units"
    if gap.value <= 0:
        return f"{ours} does NOT beat {baseline} ({size})."
    if gap.low is not None and gap.low <= 0:
        return f"{ours} beats {baseline} on average, but the interval holds 0 ({size})."
    return f"{ours} beats {baseline} ({size})."
