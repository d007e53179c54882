"""Cells, chunk by chunk: where they lie, what they are, and the state behind what is measured."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cellweave.datasets.sampling import CHUNK, stream
from cellweave.datasets.world import World

__all__ = ["Cells", "cells_of_chunk", "signal_of"]

_TISSUE = 2000.0  # micrometres
_STRONGEST = np.float32(3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Hold the hidden side of some cells; every array has one row a cell."""

    types: np.ndarray
    states: np.ndarray
    maturity: np.ndarray
    positions: np.ndarray
    niches: np.ndarray
    batches: np.ndarray

    def head(self, n: int) -> Cells:
        """Return the first ``n`` cells."""
        return Cells(**{f.name: getattr(self, f.name)[:n] for f in fields(self)})


def cells_of_chunk(world: World, population: str, chunk: int) -> Cells:
    """Draw the cells of one chunk of a population (a modality, or ``"all"`` for paired data)."""
    design, types = world.design, world.types
    rng = stream(design.seed, f"cells of {population}", chunk)
    positions = rng.random((CHUNK, 2))
    distance = ((positions[:, None, :] - types.niche_centres[None]) ** 2).sum(axis=2)
    niches = distance.argmin(axis=1)
    mixture = _mixture_without(world, design.absent.get(population, ()))
    cumulative = mixture.cumsum(axis=1)[niches]
    drawn = (rng.random((CHUNK, 1)) > cumulative[:, :-1]).sum(axis=1)
    maturity = rng.beta(5.0, 1.0, CHUNK).astype(np.float32)
    centre, parent = types.centres[drawn], types.parents[drawn]
    noise = rng.standard_normal((CHUNK, design.n_states)).astype(np.float32)
    states = parent + maturity[:, None] * (centre - parent) + design.within_type * noise
    return Cells(
        types=drawn,
        states=states,
        maturity=maturity,
        positions=(positions * _TISSUE).astype(np.float32),
        niches=niches,
        batches=rng.integers(0, design.batches, CHUNK),
    )


def signal_of(world: World, cells: Cells) -> np.ndarray:
    """Return how much more than usual each cell runs each gene, in natural logs.

    It levels off at ``±_STRONGEST``: no gene of a living cell takes it over.
    """
    genes = world.genes
    marked = cells.maturity[:, None] * genes.markers[cells.types]
    signal = (cells.states @ genes.loadings.T + marked) / _STRONGEST
    return _STRONGEST * np.tanh(signal, out=signal)


def _mixture_without(world: World, absent: tuple[str, ...]) -> np.ndarray:
    keep = ~np.isin(world.types.names.astype(str), np.asarray(absent, dtype=str))
    mixture = world.types.niche_mixtures * keep
    return mixture / mixture.sum(axis=1, keepdims=True)
