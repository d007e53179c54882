"""What a fit will need, told from sizes alone.

A step costs one pass over cells x features of each modality, one over the graph's vertices, and a
fixed part for networks and bookkeeping; the constants were measured on one CPU core and hold
within a factor of about three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.contracts import Estimate
from cellweave_glue.schedule import schedule_for

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave_glue.integrator import GlueIntegrator

__all__ = ["estimate"]

_SECONDS_PER_ENTRY = 9e-9
_SECONDS_PER_VERTEX = 1.7e-6
_SECONDS_PER_STEP = 0.015
_SECONDS_PER_NEIGHBOUR_ENTRY = 4e-9
_BASE_BYTES = 400 << 20
_COPIES_OF_DATA = 3
_COPIES_OF_BATCH = 6
_COPIES_OF_VERTICES = 24


def estimate(mdata: MuData, integrator: GlueIntegrator) -> Estimate:
    """Return seconds and peak bytes beyond the data already in memory."""
    sizes = {m: (a.n_obs, _features(m, a), _stored(a)) for m, a in mdata.mod.items()}
    n_cells = sum(n for n, _, _ in sizes.values())
    vertices = sum(f for _, f, _ in sizes.values())
    schedule = schedule_for(
        n_cells,
        batch_size=integrator.batch_size,
        learning_rate=integrator.learning_rate,
        train_fraction=1 - integrator.validation_fraction,
        progress=integrator.progress,
        min_epochs=integrator.min_epochs,
    )
    n_steps = 2 * schedule.max_epochs * schedule.steps_per_epoch
    entries = sum(min(integrator.batch_size, n) * f for n, f, _ in sizes.values())
    per_step = _SECONDS_PER_STEP + _SECONDS_PER_ENTRY * entries + _SECONDS_PER_VERTEX * vertices
    largest = min(max(n for n, _, _ in sizes.values()), 20_000)
    neighbours = 8 * len(sizes) * _SECONDS_PER_NEIGHBOUR_ENTRY * largest**2
    bytes_needed = (
        _BASE_BYTES
        + _COPIES_OF_DATA * sum(stored for _, _, stored in sizes.values())
        + 4 * _COPIES_OF_BATCH * entries
        + 4 * _COPIES_OF_VERTICES * vertices * integrator.n_latent
    )
    return Estimate(seconds=per_step * n_steps + neighbours, peak_bytes=int(bytes_needed))


def _features(name: str, adata: AnnData) -> int:
    if name == "rna" and "highly_variable" in adata.var:
        return int(np.asarray(adata.var["highly_variable"], dtype=bool).sum())
    return int(adata.n_vars)


def _stored(adata: AnnData) -> int:
    counts = adata.layers.get("counts", adata.X)
    stored = getattr(counts, "nnz", None)
    return 8 * int(adata.n_obs * adata.n_vars if stored is None else stored)
