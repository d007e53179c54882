"""What a fit will need, from the numbers of cells; constants measured on one core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.contracts import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellweave_maxfuse.settings import Settings

__all__ = ["estimate_cost"]

# Seconds per pair of cells searched (neighbours, quadratic), per pair of units matched in a round,
# and per cell (linked values, whitening, assignment); bytes per cell and per pair in a block.
_SECONDS_SEARCHED = 1.2e-8
_SECONDS_MATCHED = 1.1e-7
_SECONDS_CELL = 6e-4
_BYTES_CELL = 40_000
_BYTES_BLOCK = 16


def estimate_cost(n_cells: Sequence[int], settings: Settings) -> Estimate:
    """Return seconds and peak bytes for modalities of these sizes."""
    searched = sum(n * n for n in n_cells)
    largest = max(n_cells)
    units = min(largest, 20_000) if settings.metacell_size == 0 else largest
    block = min(units, settings.batch_size)
    matched = units * block * settings.rounds * max(len(n_cells) - 1, 1)
    seconds = (
        1.0
        + _SECONDS_SEARCHED * searched
        + _SECONDS_MATCHED * matched
        + _SECONDS_CELL * sum(n_cells)
    )
    peak = 300_000_000 + _BYTES_CELL * sum(n_cells) + _BYTES_BLOCK * block * block
    return Estimate(seconds=seconds, peak_bytes=int(peak))
