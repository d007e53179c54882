"""UCE for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_uce.config import UceConfig as UceConfig
    from cellweave_uce.model import UceModel as UceModel
    from cellweave_uce.network import UceNetwork as UceNetwork
    from cellweave_uce.tokenizer import UceTokenizer as UceTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "UceConfig": "cellweave_uce.config",
        "UceModel": "cellweave_uce.model",
        "UceNetwork": "cellweave_uce.network",
        "UceTokenizer": "cellweave_uce.tokenizer",
    },
)
