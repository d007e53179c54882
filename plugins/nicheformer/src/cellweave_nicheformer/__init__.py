"""Nicheformer for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_nicheformer.config import NicheformerConfig as NicheformerConfig
    from cellweave_nicheformer.model import NicheformerModel as NicheformerModel
    from cellweave_nicheformer.network import NicheformerNetwork as NicheformerNetwork
    from cellweave_nicheformer.tokenizer import NicheformerTokenizer as NicheformerTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "NicheformerConfig": "cellweave_nicheformer.config",
        "NicheformerModel": "cellweave_nicheformer.model",
        "NicheformerNetwork": "cellweave_nicheformer.network",
        "NicheformerTokenizer": "cellweave_nicheformer.tokenizer",
    },
)
