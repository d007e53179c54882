"""Streams of cells larger than memory: a compact store, a reachable random order, tokens at load.

The order of cells is a function of (seed, epoch, position), so any batch can be reached without
reading those before it, and a killed run goes on where it stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.streaming.building import build_store as build_store
    from cellweave.streaming.files import CellFiles as CellFiles
    from cellweave.streaming.order import BlockOrder as BlockOrder
    from cellweave.streaming.quality import shuffle_quality as shuffle_quality
    from cellweave.streaming.store import CellStore as CellStore
    from cellweave.streaming.stream import CellBatch as CellBatch
    from cellweave.streaming.stream import CellStream as CellStream

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BlockOrder": "cellweave.streaming.order",
        "CellBatch": "cellweave.streaming.stream",
        "CellFiles": "cellweave.streaming.files",
        "CellStore": "cellweave.streaming.store",
        "CellStream": "cellweave.streaming.stream",
        "build_store": "cellweave.streaming.building",
        "shuffle_quality": "cellweave.streaming.quality",
    },
)
