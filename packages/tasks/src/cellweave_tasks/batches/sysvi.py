"""sysVI (Hrovatin et al. 2024) through scvi-tools, for batches that differ strongly.

A conditional autoencoder of normalised logarithms with a VampPrior and a cycle-consistency loss.
"""

from __future__ import annotations

from cellweave_tasks.batches.methods import BatchCells, Corrected
from cellweave_tasks.batches.scvi import trained_latent

__all__ = ["sysvi"]


def sysvi(cells: BatchCells) -> Corrected:
    """Return the latent means."""
    from scvi.external import SysVI

    return trained_latent(SysVI, cells, cells.logs)
