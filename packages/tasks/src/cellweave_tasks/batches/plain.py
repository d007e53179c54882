"""What every correction is measured against: variable genes, and their principal axes."""

from __future__ import annotations

from cellweave_tasks.batches.methods import BatchCells, Corrected

__all__ = ["principal_axes", "variable_genes"]


def variable_genes(cells: BatchCells) -> Corrected:
    """Return the normalised logarithms of the variable genes."""
    return Corrected(values=cells.logs, note=f"{cells.logs.shape[1]} variable genes")


def principal_axes(cells: BatchCells) -> Corrected:
    """Return principal axes of the scaled variable genes."""
    from cellweave.preparing.components import principal_components, standardized

    scaled = standardized(cells.logs, axis=0).clip(-10, 10)
    size = min(50, min(scaled.shape) - 1)
    return Corrected(values=principal_components(scaled, size, seed=cells.seed)[0])
