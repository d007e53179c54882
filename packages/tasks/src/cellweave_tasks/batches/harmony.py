"""Harmony (Korsunsky et al. 2019) through harmonypy, with its defaults.

Soft k-means clusters whose batches are kept mixed by an entropy penalty; in each, a linear model
of the batch is taken out of the axes.
"""

from __future__ import annotations

import numpy as np

from cellweave_tasks.batches.methods import BatchCells, Corrected

__all__ = ["harmony"]


def harmony(cells: BatchCells) -> Corrected:
    """Return the axes without their batch parts."""
    import harmonypy

    found = harmonypy.run_harmony(
        np.asarray(cells.axes, dtype=np.float64),
        {"batch": cells.batches},
        "batch",
        verbose=False,
        random_state=cells.seed,
        ncores=1,
    )
    values = np.asarray(found.Z_corr)
    # Releases differ in which way the table lies.
    return Corrected(values=values if len(values) == len(cells.batches) else values.T)
