"""Soft matching: unbalanced entropic transport between two blocks of cells.

``min <P, D> + ε KL(P | ab') + ρ KL(P1 | a) + ρ KL(P'1 | b)``: a cell spreads over the cells that
look like it, and types that are more numerous on one side may keep mass unmatched (ρ → ∞ would
force every cell to take part). ``D`` is the cosine distance; ε and ρ are shares of its spread, so
they mean the same on any data. We depart from the paper's one-to-one assignment here: on real data
the soft plan gives the better canonical axes, in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cellweave.errors import NumericalError

__all__ = ["Block", "SoftMatching", "blocks_of", "soft_plan"]

_STEPS = 30
_FLOOR = np.float32(-60.0)  # exp(-60): below it floats denormalise, and a match means nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftMatching:
    """Say how soft a match is (``epsilon``) and how firmly masses are kept (``rho``)."""

    epsilon: float
    rho: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Hold the rows of both sides that are matched among each other."""

    left: np.ndarray
    right: np.ndarray


def blocks_of(n_left: int, n_right: int, size: int) -> Iterator[Block]:
    """Deal the cells of both sides into blocks of at most ``size``, alike in composition.

    The deal is a fixed shuffle of the canonical order: no seed, no dependence on the input order.
    """
    n_blocks = -(-max(n_left, n_right) // size)
    if n_blocks == 1:
        yield Block(left=np.arange(n_left), right=np.arange(n_right))
        return
    # Two shuffles: equal positions of the two sides must not meet more often than by chance.
    left, right = _shuffled(n_left, 0), _shuffled(n_right, 1)
    n_blocks = min(n_blocks, n_left, n_right)
    for i in range(n_blocks):
        yield Block(left=np.sort(left[i::n_blocks]), right=np.sort(right[i::n_blocks]))


def _shuffled(n: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).permutation(n)


def soft_plan(
    distance: np.ndarray,
    left_mass: np.ndarray,
    right_mass: np.ndarray,
    settings: SoftMatching,
) -> np.ndarray:
    """Return the ``(n, m)`` plan, summing to 1; ``distance`` is overwritten."""
    spread = float(distance.std())
    kernel = distance
    kernel -= distance.min()
    kernel *= np.float32(-1.0 / max(settings.epsilon * spread, 1e-12))
    np.maximum(kernel, _FLOOR, out=kernel)
    np.exp(kernel, out=kernel)
    kernel /= kernel.mean()
    a = (left_mass / left_mass.sum()).astype(np.float32)
    b = (right_mass / right_mass.sum()).astype(np.float32)
    u, v = _scalings(kernel, a, b, settings.rho / (settings.rho + settings.epsilon))
    kernel *= (a * u)[:, None]
    kernel *= (b * v)[None, :]
    total = float(kernel.sum(dtype=np.float64))
    if not np.isfinite(total) or total <= 0:
        msg = (
            f"Soft matching of {kernel.shape[0]} with {kernel.shape[1]} cells gave a total of "
            f"{total!r}. Expected a positive number. Raise `epsilon`, or look for constant columns "
            "in the representations."
        )
        raise NumericalError(msg)
    kernel /= np.float32(total)
    return kernel


def _scalings(
    kernel: np.ndarray, a: np.ndarray, b: np.ndarray, power: float
) -> tuple[np.ndarray, np.ndarray]:
    tiny = np.float32(1e-30)
    v = np.ones(len(b), dtype=np.float32)
    for _ in range(_STEPS):
        u = (kernel @ (b * v) + tiny) ** np.float32(-power)
        v = ((a * u) @ kernel + tiny) ** np.float32(-power)
    return u, v
