"""What an instrument reports of a cell, one function a modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from cellweave.datasets.cells import Cells
from cellweave.datasets.sampling import CHUNK, negative_binomial, stream, thinned
from cellweave.datasets.world import Features, World

__all__ = ["Instrument", "instrument_for"]

_AMBIENT = 0.15  # share of antibody counts that tell nothing of the cell
_OPEN = 3.0  # mean count of a peak that is wide open: a cell has two copies of it
_DETECTION = 4.7  # log intensity under which a metabolite is not seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """Measure one modality of whole chunks of cells."""

    modality: str
    world: World
    drive: sp.csr_matrix

    def measure(self, cells: Cells, signal: np.ndarray, chunk: int) -> sp.csr_matrix:
        """Return the values of one whole chunk, cells by features."""
        design = self.world.design
        features = self.world.features[self.modality]
        rng = stream(design.seed, f"values of {self.modality}", chunk)
        logs = np.asarray((self.drive @ signal.T).T, dtype=np.float32)
        logs += features.level
        values = _READINGS[self.modality](logs, features, cells, self.world, rng)
        return thinned(values, design.dropout, rng)


def instrument_for(world: World, modality: str) -> Instrument:
    """Return the instrument of one modality."""
    features = world.features[modality]
    drive = features.drive
    shape = (len(features.table), len(world.genes.table))
    at = (drive["feature"].to_numpy(), drive["gene"].to_numpy())
    matrix = sp.csr_matrix((drive["effect"].to_numpy(dtype=np.float32), at), shape=shape)
    return Instrument(modality=modality, world=world, drive=matrix)


_Reading = Callable[[np.ndarray, Features, Cells, World, np.random.Generator], sp.csr_matrix]


def _count(
    logs: np.ndarray,
    features: Features,
    cells: Cells,
    depth: float,
    rng: np.random.Generator,
    most: float = np.inf,
) -> sp.csr_matrix:
    means = _shares(logs + features.batch[cells.batches])
    means *= depth * rng.lognormal(0.0, 0.35, (CHUNK, 1)).astype(np.float32)
    return negative_binomial(np.minimum(means, most), features.dispersion, rng)


def _read_rna(
    logs: np.ndarray, features: Features, cells: Cells, world: World, rng: np.random.Generator
) -> sp.csr_matrix:
    return _count(logs, features, cells, world.design.rna_depth, rng)


def _read_panel(
    logs: np.ndarray, features: Features, cells: Cells, world: World, rng: np.random.Generator
) -> sp.csr_matrix:
    return _count(logs, features, cells, world.design.spatial_depth, rng)


def _read_atac(
    logs: np.ndarray, features: Features, cells: Cells, world: World, rng: np.random.Generator
) -> sp.csr_matrix:
    counts = _count(logs, features, cells, world.design.atac_depth, rng, _OPEN)
    if world.design.binary_atac:
        counts.data[:] = 1.0
    return counts


def _read_prot(
    logs: np.ndarray, features: Features, cells: Cells, world: World, rng: np.random.Generator
) -> sp.csr_matrix:
    ambient = np.full(logs.shape[1], 1 / logs.shape[1], dtype=np.float32)
    means = (1 - _AMBIENT) * _shares(logs)
    # How much antibody sticks without a target differs from cell to cell.
    means += _AMBIENT * ambient * rng.lognormal(0.0, 0.5, (CHUNK, 1)).astype(np.float32)
    means *= np.exp(features.batch[cells.batches])
    means *= world.design.prot_depth * rng.lognormal(0.0, 0.3, (CHUNK, 1)).astype(np.float32)
    return negative_binomial(means, features.dispersion, rng)


def _read_metab(
    logs: np.ndarray, features: Features, cells: Cells, _: World, rng: np.random.Generator
) -> sp.csr_matrix:
    noise = features.dispersion * rng.standard_normal(logs.shape, dtype=np.float32)
    size = rng.normal(0.0, 0.3, (CHUNK, 1)).astype(np.float32)
    logs = logs + features.batch[cells.batches] + noise + size
    return sp.csr_matrix(np.where(logs > _DETECTION, np.exp(logs), 0).astype(np.float32))


def _shares(logs: np.ndarray) -> np.ndarray:
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


_READINGS: dict[str, _Reading] = {
    "rna": _read_rna,
    "atac": _read_atac,
    "prot": _read_prot,
    "spatial": _read_panel,
    "metab": _read_metab,
}
