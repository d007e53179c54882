"""CellPLM for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_cellplm.config import CellplmConfig as CellplmConfig
    from cellweave_cellplm.model import CellplmModel as CellplmModel
    from cellweave_cellplm.network import CellplmNetwork as CellplmNetwork
    from cellweave_cellplm.tokenizer import CellplmTokenizer as CellplmTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CellplmConfig": "cellweave_cellplm.config",
        "CellplmModel": "cellweave_cellplm.model",
        "CellplmNetwork": "cellweave_cellplm.network",
        "CellplmTokenizer": "cellweave_cellplm.tokenizer",
    },
)
