"""Geneformer for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_geneformer.config import GeneformerConfig as GeneformerConfig
    from cellweave_geneformer.model import GeneformerModel as GeneformerModel
    from cellweave_geneformer.network import GeneformerNetwork as GeneformerNetwork
    from cellweave_geneformer.tokenizer import GeneformerTokenizer as GeneformerTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "GeneformerConfig": "cellweave_geneformer.config",
        "GeneformerModel": "cellweave_geneformer.model",
        "GeneformerNetwork": "cellweave_geneformer.network",
        "GeneformerTokenizer": "cellweave_geneformer.tokenizer",
    },
)
